//! import chain
// The softmax of decode.wgsl with the same bits on every adapter: to base 2, under a maximum rounded up to a whole number.
// src/reference/decode.ts is the same in TypeScript.

override SCALE2: f32 = 0.7213475108146667;  // log2(e) / sqrt(D)

fn scaled(sum: f32) -> f32 { return settle(sum * SCALE2); }
fn maximum(highest: f32) -> f32 { return -floor(-highest); }
fn exponential(t: f32, highest: f32) -> f32 { return exp2Less4(vec4f(t), vec4f(highest)).x; }
fn weighted(value: f32, sum: f32) -> f32 { return rounded(settle(value * reciprocal(sum))); }
