// The exact gradient sum. float32 values are rounded to multiples of 2^-40 and added as 64-bit two's complement integers.
// Low and high words lie in two arrays of the same layout. Integer sums do not depend on their order.

const FIXED_POINT_EXPONENT = 40i;

// Bits set in a status word.
const STATUS_NONFINITE = 1u;  // NaN or Inf
const STATUS_OVERFLOW = 2u;   // |value| >= 2^12

// The status of a value, from its bits as an integer: a WGSL compiler may assume that no float is NaN or infinite.
fn fixedPointStatus(bits: u32) -> u32 {
  let e = (bits >> 23u) & 255u;
  return select(select(0u, STATUS_OVERFLOW, e >= 127u + 12u), STATUS_NONFINITE, e == 255u);
}

// The integer nearest (ties to even) to value * 2^40, as (low, high).
fn toFixedPoint(bits: u32) -> vec2u {
  let e = i32((bits >> 23u) & 255u);
  let mantissa = select((bits & 0x7fffffu) | 0x800000u, 0u, e == 0);
  let shift = e - 150 + FIXED_POINT_EXPONENT;  // the integer is mantissa * 2^shift
  // to the left
  let l = u32(clamp(shift, 0, 28));
  let upLow = mantissa << l;
  let upHigh = select(mantissa >> ((32u - l) & 31u), 0u, l == 0u);
  // to the right, with rounding; 25 bits and more give zero
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

// The float32 nearest (ties to even) to each 64-bit integer, times 2^-40. Rounding is in integers, because
// f32(high) * 2^32 + low would round twice. The smallest magnitude, 2^-40, is a normal float. There are no branches, because
// lanes would take them in turn.
fn fromFixedPoint(low: vec4u, high: vec4u) -> vec4f {
  let sign = bitcast<vec4u>(bitcast<vec4i>(high) >> vec4u(31u));  // all ones where negative
  let l0 = (low ^ sign) - sign;
  let h0 = (high ^ sign) + (sign & select(vec4u(), vec4u(1u), l0 == vec4u()));
  // normalise so that the top bit of h is set
  let small = h0 == vec4u();
  let a = select(h0, l0, small);
  let b = select(l0, vec4u(), small);
  let zeros = countLeadingZeros(a);
  let s = zeros & vec4u(31u);
  let h = (a << s) | ((b >> vec4u(1u)) >> (vec4u(31u) - s));
  // 24 bits are kept. Rounding looks at the 8 low bits of h, and at one bit that says whether anything below them is set
  let kept = h >> vec4u(8u);
  let rest = ((h & vec4u(255u)) << vec4u(1u)) | select(vec4u(), vec4u(1u), (b << s) != vec4u());
  let up = select(vec4u(), vec4u(1u), rest + (kept & vec4u(1u)) > vec4u(256u));
  // The implicit bit adds one to the exponent field, and a carry out of the mantissa adds another.
  let exponent = select(vec4u(63u), vec4u(31u), small) - zeros + vec4u(127u - u32(FIXED_POINT_EXPONENT) - 1u);
  let bits = ((exponent << vec4u(23u)) + kept + up) | (sign & vec4u(0x80000000u));
  return select(bitcast<vec4f>(bits), vec4f(), a == vec4u());
}

// The low and high words of four 64-bit integers.
struct Words {
  low: vec4u,
  high: vec4u,
}

// The sum of two 64-bit integers, each (low, high).
fn add64(a: vec2u, b: vec2u) -> vec2u {
  let low = a.x + b.x;
  return vec2u(low, a.y + b.y + u32(low < b.x));
}
