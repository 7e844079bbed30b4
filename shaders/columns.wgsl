// Sums over rows, for the gradients of biases and of LayerNorm's gain and bias: first each column over a chunk of
// ROWS rows into scratch, then the chunks in order, rounded to the grid and added to the 64-bit sums.
//
// dy, x [M, N]; stats [M, 2] = mean, rstd; partial [chunks, WIDTH].
//   bias  partial[k, n] = sum of dy[r, n]
//   norm  partial[k, n] = sum of dy * xhat (the gain's gradient), partial[k, BIAS_AT + n] = sum of dy; gain and bias
//         are neighbours in the flat array, BIAS_AT values apart, so that one `finish` serves both.
//   finish  low, high [WIDTH] += the sum over the chunks
//! import grid

override M: u32 = 8u;
override N: u32 = 4u;
override ROWS: u32 = 64u;
override WIDTH: u32 = 4u;
override BIAS_AT: u32 = 0u;
override CHUNKS: u32 = 1u;

@group(0) @binding(0) var<storage, read> dy: array<f32>;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> stats: array<vec2f>;
@group(0) @binding(3) var<storage, read_write> partial: array<f32>;
@group(0) @binding(4) var<storage, read> partials: array<f32>;
@group(0) @binding(5) var<storage, read_write> low: array<u32>;
@group(0) @binding(6) var<storage, read_write> high: array<u32>;
@group(0) @binding(7) var<storage, read_write> status: atomic<u32>;

@compute @workgroup_size(64)
fn bias(@builtin(global_invocation_id) id: vec3u) {
  let n = id.x;
  if (n >= N) { return; }
  var sum = 0.0;
  let end = min(M, (id.y + 1u) * ROWS);
  for (var row = id.y * ROWS; row < end; row++) { sum += dy[row * N + n]; }
  partial[id.y * WIDTH + n] = sum;
}

@compute @workgroup_size(64)
fn norm(@builtin(global_invocation_id) id: vec3u) {
  let n = id.x;
  if (n >= N) { return; }
  var gain = 0.0;
  var sum = 0.0;
  let end = min(M, (id.y + 1u) * ROWS);
  for (var row = id.y * ROWS; row < end; row++) {
    let s = stats[row];
    let d = dy[row * N + n];
    gain += d * (x[row * N + n] - s.x) * s.y;
    sum += d;
  }
  partial[id.y * WIDTH + n] = gain;
  partial[id.y * WIDTH + BIAS_AT + n] = sum;
}

@compute @workgroup_size(64)
fn finish(@builtin(global_invocation_id) id: vec3u) {
  let n = id.x;
  if (n >= WIDTH) { return; }
  // between gain and bias
  if (BIAS_AT > 0u && n >= N && n < BIAS_AT) { return; }
  var sum = 0.0;
  for (var k = 0u; k < CHUNKS; k++) { sum += partials[k * WIDTH + n]; }
  let bits = bitcast<u32>(sum);
  let wrong = gridStatus(bits);
  if (wrong != 0u) { atomicOr(&status, wrong); }
  let total = add64(vec2u(low[n], high[n]), toGrid(bits));
  low[n] = total.x;
  high[n] = total.y;
}
