//! import chain
// The softmax of decode.wgsl as the adapter computes it. decode_portable.wgsl has the same functions.

fn scaled(sum: f32) -> f32 { return sum * inverseSqrt(f32(D)); }
fn maximum(highest: f32) -> f32 { return highest; }
fn exponential(t: f32, highest: f32) -> f32 { return exp(t - highest); }
fn weighted(value: f32, sum: f32) -> f32 { return value / sum; }
