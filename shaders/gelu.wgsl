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

fn geluDerivative(x: f32) -> f32 {
  let t = geluTanh(x);
  return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * GELU_SCALE * (1.0 + 3.0 * GELU_CUBIC * x * x);
}
