// LayerNorm (Ba et al., arXiv 1607.06450) over rows of C values.
//
//   forward   y = (x - mean) * rstd * gain + bias,  rstd = 1 / sqrt(variance + 1e-5)
//   backward  dx (+)= rstd * (g - mean(g) - xhat * mean(g * xhat)),  g = dy * gain,  xhat = (x - mean) * rstd
//
// x, y, dy, dx [M, C]; stats [M, 2] = mean, rstd; gain, bias [C]. With PASSING, `backward` adds to dx,
// which then holds the gradient that passes by on the residual stream; else it overwrites it.
//
// LANES threads share a row and ROWS rows share a workgroup. On a GPU a row has 64 threads and a tree in workgroup
// memory; on a software adapter barriers and workgroup memory cost more than they give, so each thread takes a row
// and the branches on LANES fold away. Loops over columns begin at the row's first value, which the compiler does not
// know: narrow rows would else be unrolled, which takes LLVM seconds.

override M: u32 = 8u;
override C: u32 = 4u;
override LANES: u32 = 1u;
override ROWS: u32 = 8u;
override PASSING: bool = true;
const EPSILON = 1e-5;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> gain: array<f32>;
@group(0) @binding(2) var<storage, read> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> stats: array<vec2f>;
@group(0) @binding(5) var<storage, read> savedStats: array<vec2f>;
@group(0) @binding(6) var<storage, read> dy: array<f32>;
@group(0) @binding(7) var<storage, read_write> dx: array<f32>;

var<workgroup> partial: array<vec2f, LANES * ROWS>;

// The sum over the row's lanes, to all of them.
fn rowSum(value: vec2f, local: vec3u) -> vec2f {
  if (LANES == 1u) { return value; }
  let at = local.y * LANES + local.x;
  workgroupBarrier();
  partial[at] = value;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (local.x < half) { partial[at] += partial[at + half]; }
  }
  workgroupBarrier();
  return partial[local.y * LANES];
}

@compute @workgroup_size(LANES, ROWS)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  // Rows past the end are computed like the last and not stored, so that barriers stay uniform.
  let index = group.x * ROWS + local.y;
  let row = min(index, M - 1u);
  let base = row * C;
  var sum = 0.0;
  for (var i = base + local.x; i < base + C; i += LANES) { sum += x[i]; }
  let mean = rowSum(vec2f(sum), local).x / f32(C);
  var squares = 0.0;
  for (var i = base + local.x; i < base + C; i += LANES) {
    let d = x[i] - mean;
    squares += d * d;
  }
  let rstd = inverseSqrt(rowSum(vec2f(squares), local).x / f32(C) + EPSILON);
  if (index >= M) { return; }
  if (local.x == 0u) { stats[row] = vec2f(mean, rstd); }
  for (var i = base + local.x; i < base + C; i += LANES) { y[i] = (x[i] - mean) * rstd * gain[i - base] + bias[i - base]; }
}

@compute @workgroup_size(LANES, ROWS)
fn backward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let index = group.x * ROWS + local.y;
  let row = min(index, M - 1u);
  let base = row * C;
  let s = savedStats[row];
  var sums = vec2f();
  for (var i = base + local.x; i < base + C; i += LANES) {
    let g = dy[i] * gain[i - base];
    sums += vec2f(g, g * (x[i] - s.x) * s.y);
  }
  let means = rowSum(sums, local) / f32(C);
  if (index >= M) { return; }
  for (var i = base + local.x; i < base + C; i += LANES) {
    let xhat = (x[i] - s.x) * s.y;
    let own = s.y * (dy[i] * gain[i - base] - means.x - xhat * means.y);
    if (PASSING) { dx[i] += own; } else { dx[i] = own; }
  }
}
