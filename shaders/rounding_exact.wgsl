//! import fixed_point
// How a gradient becomes an integer that is added to the 64-bit sums: the nearest multiple of 2^-40. rounding_low.wgsl has
// the same function for the low wire.
// `at`: the index of the value in the bound sums; `product`: which of a stack's micro-batches it belongs to.

fn integerOf(_at: u32, _product: u32, bits: u32) -> vec2u { return toFixedPoint(bits); }

// The integers of four consecutive values. `isTogether`: `at` is always a multiple of 4.
fn integersOf4(_at: u32, _product: u32, bits: vec4u, _isTogether: bool) -> Words {
  let x = toFixedPoint(bits.x);
  let y = toFixedPoint(bits.y);
  let z = toFixedPoint(bits.z);
  let w = toFixedPoint(bits.w);
  return Words(vec4u(x.x, y.x, z.x, w.x), vec4u(x.y, y.y, z.y, w.y));
}
