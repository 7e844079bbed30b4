//! import portable
// GELU by tanh, as gelu.wgsl has it, in portable arithmetic. (1 + tanh u) / 2 is 1 / (1 + exp(-2 u)), so that
//
//   gelu(x) = x s                s = 1 / (1 + 2^-a)       a = log2(e) 2 u = x (SCALE + CUBIC x^2)
//   gelu'(x) = s + x s (1 - s) (SLOPE + SLOPE_SQUARE x^2)
//
// a is clamped to where `reciprocal4` is exact enough. NaN passes, because x is a factor.

const GELU_SCALE = 2.30220819;         // log2(e) 2 sqrt(2 / pi)
const GELU_CUBIC = 0.102943242;        // 0.044715 of it
const GELU_SLOPE = 1.59576917;         // 2 sqrt(2 / pi)
const GELU_SLOPE_SQUARE = 0.214064449;  // 3 * 0.044715 of it

fn geluSigmoid4(x: vec4f, square: vec4f) -> vec4f {
  let factor = keep4(GELU_SCALE + settle4(GELU_CUBIC * square));
  let a = clamp(settle4(x * factor), vec4f(-100.0), vec4f(100.0));
  return reciprocal4(keep4(1.0 + exp2Of4(-a)));
}

fn gelu4(x: vec4f) -> vec4f {
  return settle4(x * geluSigmoid4(x, settle4(x * x)));
}

fn geluDerivative4(x: vec4f) -> vec4f {
  let square = settle4(x * x);
  let s = geluSigmoid4(x, square);
  let slope = keep4(GELU_SLOPE + settle4(GELU_SLOPE_SQUARE * square));
  let curve = settle4(s * keep4(1.0 - s));
  return keep4(s + settle4(settle4(x * curve) * slope));
}
