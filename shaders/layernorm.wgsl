//! import extent
//! import random
//! import f16_range
// LayerNorm (Ba et al., arXiv 1607.06450) over rows of C values.
//
//   forward   y = (x - mean) * rstd * gain + bias,  rstd = 1 / sqrt(variance + 1e-5)
//   backward  dx (+)= rstd * (g - mean(g) - xhat * mean(g * xhat)),  g = dy * gain,  xhat = (x - mean) * rstd
//   backwardDropout  the same, and dropped = dx * the factors of the dropout that backward goes through next
//
// x, y, dy, dx, dropped [M, C], M = extent.rows; stats [M, 2] = mean, rstd; gain, bias [C]. With ACCUMULATE,
// `backward` adds to dx, which then holds the gradient of the residual stream; else it overwrites dx. A sequence is T rows.
//
// LANES threads share a row and ROWS rows share a workgroup. On a GPU a row has 64 threads and a tree in workgroup memory.
// On a software adapter barriers and workgroup memory cost more than they gain, so each thread takes a row, and the branches
// on LANES fold away. Threads are counted along x, where a software adapter has its lanes.
//
// A thread takes four columns at once: lane l takes columns 4 l to 4 l + 3, then those 4 LANES further on. Where C is no
// multiple of 4, rows may begin inside a vec4, and values are loaded and stored one by one; values beyond the row count as
// zero. Loops over columns begin at the row's first value, which the compiler does not know: LLVM would take seconds to
// unroll narrow rows.
//
// y (`f16Y`), dy (`f16Gradient`) and dropped (`f16Dropped`) may be float16.

alias ValueY = f32;  //! f16Y: alias ValueY = f16;
alias Gradient = f32;  //! f16Gradient: alias Gradient = f16;
alias Dropped = f32;  //! f16Dropped: alias Dropped = f16;
fn toY(v: vec4f) -> vec4f { return v; }  //! f16Y: fn toY(v: vec4f) -> vec4<f16> { return vec4<f16>(f16Range4(v)); }
fn toDropped(v: vec4f) -> vec4f { return v; }  //! f16Dropped: fn toDropped(v: vec4f) -> vec4<f16> { return vec4<f16>(f16Range4(v)); }

override C: u32 = 4u;
override T: u32 = 1u;
override LANES: u32 = 1u;
override ROWS: u32 = 8u;
override ACCUMULATE: bool = true;
const EPSILON = 1e-5;

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> gain: array<vec4f>;
@group(0) @binding(2) var<storage, read> bias: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<ValueY>>;
@group(0) @binding(4) var<storage, read_write> stats: array<vec2f>;
@group(0) @binding(5) var<storage, read> savedStats: array<vec2f>;
@group(0) @binding(6) var<storage, read> dy: array<vec4<Gradient>>;
@group(0) @binding(7) var<storage, read_write> dx: array<vec4f>;
@group(0) @binding(8) var<storage, read_write> dropped: array<vec4<Dropped>>;
@group(0) @binding(9) var<uniform> dropoutKey: DropoutKey;

var<workgroup> partial: array<vec2f, LANES * ROWS>;

// The sum over the row's lanes, in all of them.
fn rowSum(value: vec2f, lane: u32, local: u32) -> vec2f {
  if (LANES == 1u) { return value; }
  workgroupBarrier();
  partial[local] = value;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) { partial[local] += partial[local + half]; }
  }
  workgroupBarrier();
  return partial[local - lane];
}

fn sum4(v: vec4f) -> f32 { return (v.x + v.y) + (v.z + v.w); }

// Which of the columns c to c + 3 a row has.
fn inside(c: u32) -> vec4<bool> { return vec4u(c) + vec4u(0u, 1u, 2u, 3u) < vec4u(C); }

fn insideOnly(c: u32, v: vec4f) -> vec4f {
  if (C % 4u == 0u) { return v; }
  return select(vec4f(), v, inside(c));
}

// The values at `at`, which are the columns c to c + 3 of a row.
//! each VALUES: x dy dx
fn VALUES4(at: u32) -> vec4f {
  let i = at / 4u;
  if (C % 4u == 0u) { return vec4f(VALUES[i]); }
  return vec4f(vec4(VALUES[i][at % 4u], VALUES[(at + 1u) / 4u][(at + 1u) % 4u], VALUES[(at + 2u) / 4u][(at + 2u) % 4u], VALUES[(at + 3u) / 4u][(at + 3u) % 4u]));
}
//! end

@compute @workgroup_size(LANES * ROWS)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  // Threads past the last row compute the last row and store nothing, so that barriers stay uniform.
  let lane = local % LANES;
  let index = group.x * ROWS + local / LANES;
  let row = min(index, extent.rows - 1u);
  let base = row * C;
  let first = base + 4u * lane;
  var sum = vec4f();
  for (var at = first; at < base + C; at += 4u * LANES) { sum += insideOnly(at - base, x4(at)); }
  let mean = rowSum(vec2f(sum4(sum)), lane, local).x / f32(C);
  var squares = vec4f();
  for (var at = first; at < base + C; at += 4u * LANES) {
    let d = insideOnly(at - base, x4(at) - mean);
    squares += d * d;
  }
  let rstd = inverseSqrt(rowSum(vec2f(sum4(squares)), lane, local).x / f32(C) + EPSILON);
  if (index >= extent.rows) { return; }
  if (lane == 0u) { stats[row] = vec2f(mean, rstd); }
  for (var at = first; at < base + C; at += 4u * LANES) {
    let c = at - base;
    let v = toY((x4(at) - mean) * rstd * gain[c / 4u] + bias[c / 4u]);
    if (C % 4u == 0u) {
      y[at / 4u] = v;
    } else {
      for (var k = 0u; k < min(4u, C - c); k++) { y[(at + k) / 4u][(at + k) % 4u] = v[k]; }
    }
  }
}

// One thread's row in `backward`.
struct Row {
  lane: u32,
  index: u32,  // M and more: `row` is the last one, and nothing is stored
  row: u32,
  base: u32,
  stats: vec2f,
  means: vec2f,  // of g and of g * xhat
}

fn beginBackward(group: vec3u, local: u32) -> Row {
  var r: Row;
  r.lane = local % LANES;
  r.index = group.x * ROWS + local / LANES;
  r.row = min(r.index, extent.rows - 1u);
  r.base = r.row * C;
  r.stats = savedStats[r.row];
  var sum = vec4f();
  var product = vec4f();
  for (var at = r.base + 4u * r.lane; at < r.base + C; at += 4u * LANES) {
    let g = insideOnly(at - r.base, dy4(at) * gain[(at - r.base) / 4u]);
    sum += g;
    product += g * (x4(at) - r.stats.x) * r.stats.y;
  }
  r.means = rowSum(vec2f(sum4(sum), sum4(product)), r.lane, local) / f32(C);
  return r;
}

// Stores dx at `at`, four columns of the row, and returns it.
fn backwardAt(r: Row, at: u32) -> vec4f {
  let c = at - r.base;
  let xhat = (x4(at) - r.stats.x) * r.stats.y;
  var v = r.stats.y * (dy4(at) * gain[c / 4u] - r.means.x - xhat * r.means.y);
  if (ACCUMULATE) { v += dx4(at); }
  if (C % 4u == 0u) {
    dx[at / 4u] = v;
  } else {
    for (var k = 0u; k < min(4u, C - c); k++) { dx[(at + k) / 4u][(at + k) % 4u] = v[k]; }
  }
  return v;
}

@compute @workgroup_size(LANES * ROWS)
fn backward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let r = beginBackward(group, local);
  if (r.index >= extent.rows) { return; }
  for (var at = r.base + 4u * r.lane; at < r.base + C; at += 4u * LANES) { backwardAt(r, at); }
}

@compute @workgroup_size(LANES * ROWS)
fn backwardDropout(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let r = beginBackward(group, local);
  if (r.index >= extent.rows) { return; }
  let slot = dropoutKey.firstSlot + r.row / T;
  let place = (r.row % T) * C;
  for (var at = r.base + 4u * r.lane; at < r.base + C; at += 4u * LANES) {
    let c = at - r.base;
    let v = backwardAt(r, at);
    if (C % 4u == 0u) {
      dropped[at / 4u] = toDropped(v * dropoutFactor4(dropoutKey, slot, place + c));
    } else {
      for (var k = 0u; k < min(4u, C - c); k++) {
        dropped[(at + k) / 4u][(at + k) % 4u] = toDropped(v * dropoutFactor(dropoutKey, slot, place + c + k))[k];
      }
    }
  }
}
