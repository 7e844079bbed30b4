// Arithmetic whose bits no driver can choose (--precision portable). WGSL lets a driver fuse a * b + c, reorder sums, flush
// denormals, and choose its own division, sqrt, exp, log and tanh. What is here leaves it nothing to choose. It is made of
// float + - *, comparisons, floor, bit casts and integer operations, which every driver computes alike. The same functions in
// TypeScript are src/reference/arithmetic.ts, and tests hold the two equal in every bit. docs/determinism.md has the rules.
//
//   keep           x, as a value that no compiler sees through: nothing is fused or reordered across it
//   settle         `keep`, and magnitudes below 2^-100, and -0, become +0. So no product and no stored value is ever denormal
//   rounded        x rounded to 12 significant bits, ties to even; magnitudes below 2^-50 become +0; NaN and infinity pass.
//                  A product of two such values is exact, fused or not, and sums of such products are never denormal
//
//   function       range of x                 largest error                  method
//   reciprocal     2^-100 .. 2^100, positive  1.2 ulp                        a linear guess on the bits, then Newton's steps
//   inverseSquareRoot  2^-100 .. 2^100        1.1 ulp                        the same (Lomont 2003, for the guess)
//   sqrt           0, 2^-100 .. 2^100         1.0 ulp                        inverseSqrt, one step on x * y
//   exp2           below 127.5                1.3 ulp; 0 below -100.5        x = n + f, a polynomial in f by Remez' method
//   log2           2^-100 .. 2^126            1.8 ulp                        x = 2^e (1 + f), a polynomial in f the same way
//
// NaN gives NaN everywhere; exp2 and log2 give NaN for infinity as well, and log2 for what is below 0. The reciprocal of
// 0 and of infinity, and both roots of infinity, are not finite. From 127.5 on exp2 is too small. Outside of its range a
// function may meet denormals on its way, which drivers treat as they like. Errors are the largest of all inputs between
// two powers of 4 (reciprocal, roots), of 1/2 .. 4 and every hundredth input elsewhere (log2), of every seventh (exp2).

// Zero, which no compiler knows to be zero.
@group(0) @binding(16) var<uniform> portableZero: u32;

fn keep(v: f32) -> f32 { return bitcast<f32>(bitcast<u32>(v) ^ portableZero); }
fn keep4(v: vec4f) -> vec4f { return bitcast<vec4f>(bitcast<vec4u>(v) ^ vec4u(portableZero)); }

const SETTLED = 0x0d800000u;  // 2^-100, as the bits of a float32
const SMALLEST_OPERAND = 0x26800000u;  // 2^-50
const INFINITE = 0x7f800000u;
const NOT_A_NUMBER = 0x7fc00000u;

fn settle4(v: vec4f) -> vec4f {
  let bits = bitcast<vec4u>(v) ^ vec4u(portableZero);
  return bitcast<vec4f>(select(bits, vec4u(), (bits & vec4u(0x7fffffffu)) < vec4u(SETTLED)));
}
fn settle(v: f32) -> f32 {
  let bits = bitcast<u32>(v) ^ portableZero;
  return bitcast<f32>(select(bits, 0u, (bits & 0x7fffffffu) < SETTLED));
}

fn rounded4(v: vec4f) -> vec4f {
  let bits = bitcast<vec4u>(v);
  let magnitude = bits & vec4u(0x7fffffffu);
  let nearest = (bits + vec4u(0x7ffu) + ((bits >> vec4u(12u)) & vec4u(1u))) & vec4u(0xfffff000u);
  let finite = select(nearest, bits, magnitude >= vec4u(INFINITE));
  return bitcast<vec4f>(select(finite, vec4u(), magnitude < vec4u(SMALLEST_OPERAND)));
}
fn rounded(v: f32) -> f32 {
  let bits = bitcast<u32>(v);
  let magnitude = bits & 0x7fffffffu;
  let nearest = (bits + 0x7ffu + ((bits >> 12u) & 1u)) & 0xfffff000u;
  let finite = select(nearest, bits, magnitude >= INFINITE);
  return bitcast<f32>(select(finite, 0u, magnitude < SMALLEST_OPERAND));
}

fn reciprocal4(x: vec4f) -> vec4f {
  var r = bitcast<vec4f>(vec4u(0x7ef311c3u) - bitcast<vec4u>(x));
  r = keep4(r * keep4(2.0 - keep4(x * r)));
  r = keep4(r * keep4(2.0 - keep4(x * r)));
  let error = keep4(1.0 - keep4(x * r));
  return keep4(r + keep4(r * error));
}
fn reciprocal(x: f32) -> f32 { return reciprocal4(vec4f(x)).x; }
fn quotient4(a: vec4f, b: vec4f) -> vec4f { return settle4(a * reciprocal4(b)); }

// 1 / sqrt(x), after two of its three steps; `half` is x / 2.
fn roughInverseSqrt4(x: vec4f, half: vec4f) -> vec4f {
  var y = bitcast<vec4f>(vec4u(0x5f375a86u) - (bitcast<vec4u>(x) >> vec4u(1u)));
  y = keep4(y * keep4(1.5 - keep4(half * keep4(y * y))));
  return keep4(y * keep4(1.5 - keep4(half * keep4(y * y))));
}

fn inverseSquareRoot(x: f32) -> f32 {
  let half = vec4f(keep(0.5 * x));
  let y = roughInverseSqrt4(vec4f(x), half).x;
  let error = keep(0.5 - keep(half.x * keep(y * y)));
  return keep(y + keep(y * error));
}

fn squareRoot4(x: vec4f) -> vec4f {
  let y = roughInverseSqrt4(x, keep4(0.5 * x));
  let s = keep4(x * y);
  let error = keep4(0.5 - keep4(s * keep4(0.5 * y)));
  // For 0 the steps give infinity times zero.
  return select(keep4(s + keep4(s * error)), vec4f(), x == vec4f());
}

// 2^(t - m), where m is a whole number. The fraction of t alone is rounded, so another m gives the same digits with another
// exponent.
// rule (b): products with powers of two
fn exp2Less4(t: vec4f, m: vec4f) -> vec4f {
  let n = floor(keep4(t + 0.5));
  let f = keep4(t - n);
  var p = keep4(keep4(1.53458124e-4 * f) + 1.33999309e-3);
  p = keep4(keep4(p * f) + 9.61848907e-3);
  p = keep4(keep4(p * f) + 5.55032864e-2);
  p = keep4(keep4(p * f) + 2.40226462e-1);
  p = keep4(keep4(p * f) + 6.93147182e-1);
  p = keep4(keep4(p * f) + 1.0);
  let exponent = min(keep4(n - m), vec4f(127.0));
  // 1.5 * 2^23 leaves a whole number in the lowest bits. A conversion would take longer, for values that no integer holds.
  let power = (bitcast<vec4u>(keep4(exponent + 12582912.0)) << vec4u(23u)) + vec4u(0x3f800000u);
  return p * bitcast<vec4f>(select(power, vec4u(), exponent < vec4f(-100.0)));
}

fn exp2Of4(x: vec4f) -> vec4f { return exp2Less4(x, vec4f()); }

fn log2Of(x: f32) -> f32 {
  let bits = bitcast<u32>(x);
  // The significand is halved from sqrt(2) on, so that f is between sqrt(1/2) - 1 and sqrt(2) - 1.
  let halved = u32((bits & 0x7fffffu) >= 0x3504f3u);
  let significand = bitcast<f32>((bits & 0x7fffffu) | ((127u - halved) << 23u));
  let f = keep(significand - 1.0);
  var p = keep(keep(-0.109949544 * f) + 0.186174959);
  p = keep(keep(p * f) - 0.191062748);
  p = keep(keep(p * f) + 0.204600617);
  p = keep(keep(p * f) - 0.239617407);
  p = keep(keep(p * f) + 0.288567394);
  p = keep(keep(p * f) - 0.360696644);
  p = keep(keep(p * f) + 0.480898231);
  p = keep(keep(p * f) - 0.721347332);
  p = keep(keep(p * f) + 1.44269502);
  let value = keep(f32(i32(bits >> 23u) - 127 + i32(halved)) + keep(p * f));
  return bitcast<f32>(select(NOT_A_NUMBER, bitcast<u32>(value), bits < INFINITE));
}
