// GELU by tanh (Hendrycks and Gimpel, arXiv 1606.08415), as GPT-2 has it: 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).
// The argument of tanh is clamped, because some drivers overflow to NaN for large ones.

const GELU_SCALE = 0.7978845608028654;
const GELU_CUBIC = 0.044715;

fn geluTanh(x: f32) -> f32 {
  return tanh(clamp(GELU_SCALE * (x + GELU_CUBIC * x * x * x), -15.0, 15.0));
}

fn gelu(x: f32) -> f32 {
  return 0.5 * x * (1.0 + geluTanh(x));
}

fn gelu4(v: vec4f) -> vec4f { return vec4f(gelu(v.x), gelu(v.y), gelu(v.z), gelu(v.w)); }

fn geluDerivative(x: f32) -> f32 {
  let t = geluTanh(x);
  return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * GELU_SCALE * (1.0 + 3.0 * GELU_CUBIC * x * x);
}

fn geluDerivative4(v: vec4f) -> vec4f {
  return vec4f(geluDerivative(v.x), geluDerivative(v.y), geluDerivative(v.z), geluDerivative(v.w));
}
