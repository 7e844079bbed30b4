//! import fixed_point
//! import grid_byte
//! import random
// How a gradient becomes an integer in the low wire: a multiple of 2^E, where E is the exponent of the value's block
// (grid_byte.wgsl). It is one of the two multiples around the value, at random and without bias. The random bits are a
// function of the seed, the step, the micro-batch and the value's place in the flat array, and all operations are those of
// integers. So whoever computes a micro-batch's gradient rounds it alike. rounding_exact.wgsl has the same functions.
// `at`: the index of the value in the bound sums; `product`: which of a stack's micro-batches it belongs to.

struct Rounding {
  k0: u32,  // the step's key
  k1: u32,
  firstSlot: u32,  // slot in the global batch of the stack's first sequence
  sequences: u32,  // of a micro-batch
}

@group(0) @binding(17) var<uniform> rounding: Rounding;
// Of the first of the bound sums: its place in the flat array, and in its slab. The micro-batch of the first product.
@group(0) @binding(18) var<uniform> gridPlace: vec3u;
@group(0) @binding(19) var<storage, read> grid: array<u32>;  // of the whole slab

fn exponentAt(at: u32) -> i32 {
  let block = (gridPlace.y + at) / 64u;
  return gridExponent(byteIn(grid[block / 4u], block));
}

// 16 random bits for each of the four places 4 n to 4 n + 3 that hold `at`.
fn randomBits4(at: u32, product: u32) -> vec4u {
  let slot = rounding.firstSlot + (gridPlace.z + product) * rounding.sequences;
  let words = threefry(vec2u(rounding.k0, rounding.k1), vec2u(slot, (gridPlace.x + at) / 4u));
  return vec4u(words & vec2u(0xffffu), words >> vec2u(16u));
}

// The integers of float32 values, given as bits, in units of 2^exponent. The values are below 2^12, and exponents are from -40
// to 8, so that shifts to the left are at most 28. Of values far below the unit only 16 bits decide.
fn roundToGrid4(bits: vec4u, exponent: i32, random: vec4u) -> Words {
  let e = vec4i((bits >> vec4u(23u)) & vec4u(255u));
  let mantissa = select((bits & vec4u(0x7fffffu)) | vec4u(0x800000u), vec4u(), e == vec4i());
  let shift = e - vec4i(150 + exponent);  // the value is mantissa * 2^(shift + exponent)
  let l = vec4u(clamp(shift, vec4i(), vec4i(28)));
  let r = vec4u(clamp(-shift, vec4i(), vec4i(40)));
  let a = min(r, vec4u(16u));
  let q = ((mantissa >> (r - a)) + (random >> (vec4u(16u) - a))) >> a;
  let low = q << l;
  let high = select(q >> ((vec4u(32u) - l) & vec4u(31u)), vec4u(), l == vec4u());
  let sign = bitcast<vec4u>(bitcast<vec4i>(bits) >> vec4u(31u));  // all ones where negative
  let negative = (low ^ sign) - sign;
  return Words(negative, (high ^ sign) + (sign & select(vec4u(), vec4u(1u), low == vec4u())));
}

fn integerOf(at: u32, product: u32, bits: u32) -> vec2u {
  let random = randomBits4(at, product)[(gridPlace.x + at) % 4u];
  let words = roundToGrid4(vec4u(bits), exponentAt(at), vec4u(random));
  return vec2u(words.low.x, words.high.x);
}

// The integers of four consecutive values. `isTogether`: `at` is always a multiple of 4, so that all four lie in one block and
// share their random words.
fn integersOf4(at: u32, product: u32, bits: vec4u, isTogether: bool) -> Words {
  if (isTogether) { return roundToGrid4(bits, exponentAt(at), randomBits4(at, product)); }
  let x = integerOf(at, product, bits.x);
  let y = integerOf(at + 1u, product, bits.y);
  let z = integerOf(at + 2u, product, bits.z);
  let w = integerOf(at + 3u, product, bits.w);
  return Words(vec4u(x.x, y.x, z.x, w.x), vec4u(x.y, y.y, z.y, w.y));
}
