//! import output_types
// The functions of output_values.wgsl with accesses of four values, for N and LDC that are multiples of 4.

@group(0) @binding(4) var<storage, read_write> c: array<vec4<ValueC>>;  // [M, N], leading dimension LDC
@group(0) @binding(5) var<storage, read> bias: array<vec4f>;  // [N]
@group(0) @binding(6) var<storage, read> gradient: array<vec4<ValueGradient>>;  // [M, N], LDC: GELU's argument
@group(0) @binding(7) var<storage, read> residual: array<vec4f>;  // [M, N], LDC
@group(0) @binding(8) var<storage, read_write> geluOutput: array<vec4<ValueGelu>>;  // [M, N], LDC
@group(0) @binding(10) var<storage, read_write> low: array<vec4u>;  // [M, N], LDC
@group(0) @binding(11) var<storage, read_write> high: array<vec4u>;  // [M, N], LDC

fn valuesOfC(at: u32) -> vec4f {
  return vec4f(c[at / 4u]);
}

fn putC(at: u32, _col: u32, v: vec4f) {
  c[at / 4u] = vec4(toC(v.x), toC(v.y), toC(v.z), toC(v.w));
}

fn putGelu(at: u32, _col: u32, v: vec4f) {
  geluOutput[at / 4u] = vec4(toGelu(v.x), toGelu(v.y), toGelu(v.z), toGelu(v.w));
}

fn valuesOfBias(col: u32) -> vec4f {
  return bias[col / 4u];
}

fn valuesOfGradient(at: u32) -> vec4f {
  return vec4f(gradient[at / 4u]);
}

fn valuesOfResidual(at: u32) -> vec4f {
  return residual[at / 4u];
}

// Adds four integers, by their low and high words.
fn addToSums(at: u32, _col: u32, l: vec4u, h: vec4u) {
  let sum = low[at / 4u] + l;
  low[at / 4u] = sum;
  high[at / 4u] += h + select(vec4u(), vec4u(1u), sum < l);
}

fn putSums(at: u32, _col: u32, l: vec4u, h: vec4u) {
  low[at / 4u] = l;
  high[at / 4u] = h;
}

fn wordOfSums(at: u32) -> u32 {
  return low[at / 4u].x | high[at / 4u].x;
}
