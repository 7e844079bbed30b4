//! import arithmetic
//! import grid_byte
// The exponents of the low wire's grid for the next step, from AdamW's second moments v. Gradients of a block of 64 values are
// rounded to multiples of 2^E, about half the standard deviation of one micro-batch's gradient:
//
//   x = (sum of the block's v) * gridFactor      gridFactor = 1 / (64 (1 - beta2^t) M), M micro-batches a step
//   E = floor((floor(log2 x) + 1) / 2) - 1, between -40 and 8; -40 where x is 0 or denormal
//
// A block's v are summed four by four, then in order.

const GRAIN = -1;

// The sum of four moments.
fn sumOfFour(v: vec4f) -> f32 { return keep(keep(v.x + v.y) + keep(v.z + v.w)); }

// The grid byte of a block whose moments add up to `sum`; `byte` is its byte before.
fn nextGridByte(sum: f32, gridFactor: f32, byte: u32) -> u32 {
  let e = i32((bitcast<u32>(settle(sum * gridFactor)) >> 23u) & 255u);
  let exponent = select(clamp(((e - 126) >> 1u) + GRAIN, -40, 8), -40, e == 0);
  return (byte & 128u) | u32(exponent + 64);
}
