//! import output_types
// How epilogues read and write C and the sums, one value at a time, for any N and LDC. output_vec4.wgsl has the same
// functions. `at` is the index of the first of four values, `col` its column; columns beyond N are left out.

@group(0) @binding(4) var<storage, read_write> c: array<ValueC>;        // [M, N], leading dimension LDC
@group(0) @binding(5) var<storage, read> bias: array<f32>;              // [N]
@group(0) @binding(6) var<storage, read> gradient: array<ValueGradient>;  // [M, N], LDC: GELU's argument
@group(0) @binding(7) var<storage, read> residual: array<f32>;          // [M, N], LDC
@group(0) @binding(8) var<storage, read_write> geluOutput: array<ValueGelu>;  // [M, N], LDC
@group(0) @binding(10) var<storage, read_write> low: array<u32>;        // [M, N], LDC
@group(0) @binding(11) var<storage, read_write> high: array<u32>;       // [M, N], LDC

fn valuesOfC(at: u32) -> vec4f {
  return vec4f(vec4(c[at], c[at + 1u], c[at + 2u], c[at + 3u]));
}

fn putC(at: u32, col: u32, v: vec4f) {
  c[at] = toC(v.x);
  if (col + 1u < N) { c[at + 1u] = toC(v.y); }
  if (col + 2u < N) { c[at + 2u] = toC(v.z); }
  if (col + 3u < N) { c[at + 3u] = toC(v.w); }
}

fn putGelu(at: u32, col: u32, v: vec4f) {
  geluOutput[at] = toGelu(v.x);
  if (col + 1u < N) { geluOutput[at + 1u] = toGelu(v.y); }
  if (col + 2u < N) { geluOutput[at + 2u] = toGelu(v.z); }
  if (col + 3u < N) { geluOutput[at + 3u] = toGelu(v.w); }
}

fn valuesOfBias(col: u32) -> vec4f {
  return vec4f(bias[col], bias[col + 1u], bias[col + 2u], bias[col + 3u]);
}

fn valuesOfGradient(at: u32) -> vec4f {
  return vec4f(vec4(gradient[at], gradient[at + 1u], gradient[at + 2u], gradient[at + 3u]));
}

fn valuesOfResidual(at: u32) -> vec4f {
  return vec4f(residual[at], residual[at + 1u], residual[at + 2u], residual[at + 3u]);
}

fn addToSum(at: u32, g: vec2u) {
  let l = low[at] + g.x;
  low[at] = l;
  high[at] += g.y + u32(l < g.x);
}

// Adds four integers, by their low and high words.
fn addToSums(at: u32, col: u32, l: vec4u, h: vec4u) {
  addToSum(at, vec2u(l.x, h.x));
  if (col + 1u < N) { addToSum(at + 1u, vec2u(l.y, h.y)); }
  if (col + 2u < N) { addToSum(at + 2u, vec2u(l.z, h.z)); }
  if (col + 3u < N) { addToSum(at + 3u, vec2u(l.w, h.w)); }
}

// Overwrites four sums.
fn putSums(at: u32, col: u32, l: vec4u, h: vec4u) {
  low[at] = l.x;
  high[at] = h.x;
  if (col + 1u < N) {
    low[at + 1u] = l.y;
    high[at + 1u] = h.y;
  }
  if (col + 2u < N) {
    low[at + 2u] = l.z;
    high[at + 2u] = h.z;
  }
  if (col + 3u < N) {
    low[at + 3u] = l.w;
    high[at + 3u] = h.w;
  }
}

// A word of the sums at `at`, to bring them into a cache.
fn wordOfSums(at: u32) -> u32 {
  return low[at] | high[at];
}
