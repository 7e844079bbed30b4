// The exact gradient sum: float32 values rounded to the grid 2^-40 and held as 64-bit two's complement integers, the
// low and the high words in two arrays of the same layout. Integer sums do not depend on their order.

const GRID_EXPONENT = 40i;

// Bits set in a status word.
const STATUS_NONFINITE = 1u;  // NaN or Inf
const STATUS_OVERFLOW = 2u;   // |value| >= 2^12

// What is wrong with a value, from its bits: WGSL may assume that floats are never NaN, integers cannot be assumed away.
fn gridStatus(bits: u32) -> u32 {
  let e = (bits >> 23u) & 255u;
  return select(select(0u, STATUS_OVERFLOW, e >= 127u + 12u), STATUS_NONFINITE, e == 255u);
}

// Round to nearest even of value * 2^40, as (low, high).
fn toGrid(bits: u32) -> vec2u {
  let e = i32((bits >> 23u) & 255u);
  let mantissa = select((bits & 0x7fffffu) | 0x800000u, 0u, e == 0);
  let shift = e - 150 + GRID_EXPONENT;  // the value on the grid is mantissa * 2^shift
  // to the left
  let l = u32(clamp(shift, 0, 28));
  let upLow = mantissa << l;
  let upHigh = select(mantissa >> ((32u - l) & 31u), 0u, l == 0u);
  // to the right, rounding; 25 bits and more give zero
  let r = u32(clamp(-shift, 1, 25));
  let rest = mantissa & ((1u << r) - 1u);
  let half = 1u << (r - 1u);
  let floor = mantissa >> r;
  let down = floor + u32(rest > half || (rest == half && (floor & 1u) == 1u));
  var low = select(down, upLow, shift >= 0);
  var high = select(0u, upHigh, shift >= 0);
  if ((bits >> 31u) == 1u) {
    low = ~low + 1u;
    high = ~high + u32(low == 0u);
  }
  return vec2u(low, high);
}

// The float32 nearest (ties to even) to the 64-bit integer, times 2^-40. Rounded in integers: f32(high) * 2^32 + low
// would round twice. The smallest magnitude, 2^-40, is a normal float.
fn fromGrid(low: u32, high: u32) -> f32 {
  let negative = (high >> 31u) == 1u;
  var l = select(low, ~low + 1u, negative);
  var h = select(high, ~high + u32(l == 0u), negative);
  if ((l | h) == 0u) { return 0.0; }
  // normalise so that the top bit of h is set
  var zeros = countLeadingZeros(h);
  if (h == 0u) {
    h = l;
    l = 0u;
    zeros = countLeadingZeros(h) + 32u;
  }
  let s = zeros & 31u;
  if (s > 0u) {
    h = (h << s) | (l >> (32u - s));
    l = l << s;
  }
  // 24 bits are kept; the 8 low bits of h and all of l round
  let rest = h & 255u;
  let kept = h >> 8u;
  let up = rest > 128u || (rest == 128u && (l != 0u || (kept & 1u) == 1u));
  // the implicit bit adds one to the exponent field, and a carry out of the mantissa adds another
  let exponent = 63u - zeros + 127u - u32(GRID_EXPONENT) - 1u;
  let bits = (exponent << 23u) + kept + u32(up);
  return bitcast<f32>(bits | select(0u, 0x80000000u, negative));
}

// The sum of two 64-bit integers, each (low, high).
fn add64(a: vec2u, b: vec2u) -> vec2u {
  let low = a.x + b.x;
  return vec2u(low, a.y + b.y + u32(low < b.x));
}
