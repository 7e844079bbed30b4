//! import arithmetic
// Attention's exponentials as the adapter computes them, to base e. attention_portable.wgsl has the same functions.

override SCALE: f32 = 0.17677669529663687;  // 1 / sqrt(D)

fn scaled4(s: vec4f) -> vec4f { return s * SCALE; }
fn exponentials4(t: vec4f, m: vec4f) -> vec4f { return exp(t - m); }
fn probabilities4(t: vec4f, lse: vec4f) -> vec4f { return exp(t - lse); }
