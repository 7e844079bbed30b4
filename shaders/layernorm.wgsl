//! import arithmetic
//! import extent
//! import random
//! import f16_range
//! import loops
//! import row_sum  //! portable: //! import row_sum_portable
// LayerNorm (Ba et al., arXiv 1607.06450) over rows of C values.
//
//   forward   y = (x - mean) * rstd * gain + bias,  rstd = 1 / sqrt(variance + 1e-5)
//   backward  dx (+)= rstd * (g - mean(g) - xhat * mean(g * xhat)),  g = dy * gain,  xhat = (x - mean) * rstd
//   backwardDropout  the same, and dropped = dx * the factors of the dropout that backward goes through next
//   backwardRounded  the same, and dropped = dx, rounded: for portable arithmetic where nothing is dropped
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
// y (`f16Y`), dy (`f16Gradient`) and dropped (`f16Dropped`) may be float16. Portable arithmetic stores y and dropped rounded.
// There a row's sums have eight parts, for any LANES (row_sum_portable.wgsl).

alias ValueY = f32;  //! f16Y: alias ValueY = f16;
alias Gradient = f32;  //! f16Gradient: alias Gradient = f16;
alias Dropped = f32;  //! f16Dropped: alias Dropped = f16;
fn toY(v: vec4f) -> vec4f { return rounded4(v); }  //! f16Y: fn toY(v: vec4f) -> vec4<f16> { return vec4<f16>(f16Range4(v)); }
fn toDropped(v: vec4f) -> vec4f { return rounded4(v); }  //! f16Dropped: fn toDropped(v: vec4f) -> vec4<f16> { return vec4<f16>(f16Range4(v)); }

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

fn sum4(v: vec4f) -> f32 { return keep(keep(v.x + v.y) + keep(v.z + v.w)); }

// A row's means, from its sums.
//! portable: override INVERSE_C: f32 = 0.25;
fn meansOf(sums: vec2f) -> vec2f { return sums / f32(C); }  //! portable: fn meansOf(sums: vec2f) -> vec2f { return vec2f(settle(sums.x * INVERSE_C), settle(sums.y * INVERSE_C)); }

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

// A thread's row.
struct Row {
  lane: u32,
  local: u32,
  index: u32,  // M and more: `row` is the last one, and nothing is stored, so that barriers stay uniform
  row: u32,
  base: u32,
  stats: vec2f,
}

fn rowAt(group: vec3u, local: u32) -> Row {
  let index = group.x * ROWS + local / LANES;
  let row = min(index, extent.rows - 1u);
  return Row(local % LANES, local, index, row, row * C, vec2f());
}

// One part of a row's sums: of the values; of their squared distances to the mean; of g and of g * xhat.
fn valuesInPart(r: Row, part: u32) -> vec2f {
  var sum = vec4f();
  for (var at = r.base + 4u * part; at < r.base + C; at += 4u * SUM_LANES) {
    sum = keep4(sum + insideOnly(at - r.base, x4(at)));
  }
  return vec2f(sum4(sum));
}

fn squaresInPart(r: Row, part: u32) -> vec2f {
  var squares = vec4f();
  for (var at = r.base + 4u * part; at < r.base + C; at += 4u * SUM_LANES) {
    let d = insideOnly(at - r.base, keep4(x4(at) - r.stats.x));
    squares = keep4(squares + settle4(d * d));
  }
  return vec2f(sum4(squares));
}

fn gradientsInPart(r: Row, part: u32) -> vec2f {
  var sum = vec4f();
  var product = vec4f();
  for (var at = r.base + 4u * part; at < r.base + C; at += 4u * SUM_LANES) {
    let g = insideOnly(at - r.base, settle4(dy4(at) * gain[(at - r.base) / 4u]));
    sum = keep4(sum + g);
    product = keep4(product + settle4(settle4(g * keep4(x4(at) - r.stats.x)) * r.stats.y));
  }
  return vec2f(sum4(sum), sum4(product));
}

// A row's sums, in all of its lanes.
//! each TERMS: values squares gradients
fn TERMSInRow(r: Row) -> vec2f {
  if (LANES == SUM_LANES) { return overLanes(TERMSInPart(r, r.lane), r.lane, r.local); }
  var total = vec2f();
  for (var part = 0u; part < rounds(SUM_LANES, extent.rows); part++) { total = nextPart(total, TERMSInPart(r, part)); }
  return total;
}
//! end

@compute @workgroup_size(LANES * ROWS)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  var r = rowAt(group, local);
  r.stats.x = meansOf(valuesInRow(r)).x;
  r.stats.y = inverseSquareRoot(keep(meansOf(squaresInRow(r)).x + EPSILON));
  if (r.index >= extent.rows) { return; }
  if (r.lane == 0u) { stats[r.row] = r.stats; }
  for (var at = r.base + 4u * r.lane; at < r.base + C; at += 4u * LANES) {
    let c = at - r.base;
    let v = toY(keep4(settle4(settle4(keep4(x4(at) - r.stats.x) * r.stats.y) * gain[c / 4u]) + bias[c / 4u]));
    if (C % 4u == 0u) {
      y[at / 4u] = v;
    } else {
      for (var k = 0u; k < min(4u, C - c); k++) { y[(at + k) / 4u][(at + k) % 4u] = v[k]; }
    }
  }
}

// Stores dx at `at`, four columns of the row, and returns it. `means`: of g and of g * xhat.
fn backwardAt(r: Row, means: vec2f, at: u32) -> vec4f {
  let c = at - r.base;
  let xhat = settle4(keep4(x4(at) - r.stats.x) * r.stats.y);
  let inner = keep4(keep4(settle4(dy4(at) * gain[c / 4u]) - means.x) - settle4(xhat * means.y));
  var v = settle4(r.stats.y * inner);
  if (ACCUMULATE) { v = settle4(v + dx4(at)); }
  if (C % 4u == 0u) {
    dx[at / 4u] = v;
  } else {
    for (var k = 0u; k < min(4u, C - c); k++) { dx[(at + k) / 4u][(at + k) % 4u] = v[k]; }
  }
  return v;
}

fn savedRow(group: vec3u, local: u32) -> Row {
  var r = rowAt(group, local);
  r.stats = savedStats[r.row];
  return r;
}

@compute @workgroup_size(LANES * ROWS)
fn backward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let r = savedRow(group, local);
  let means = meansOf(gradientsInRow(r));
  if (r.index >= extent.rows) { return; }
  for (var at = r.base + 4u * r.lane; at < r.base + C; at += 4u * LANES) { backwardAt(r, means, at); }
}

@compute @workgroup_size(LANES * ROWS)
fn backwardDropout(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let r = savedRow(group, local);
  let means = meansOf(gradientsInRow(r));
  if (r.index >= extent.rows) { return; }
  let slot = dropoutKey.firstSlot + r.row / T;
  let place = (r.row % T) * C;
  for (var at = r.base + 4u * r.lane; at < r.base + C; at += 4u * LANES) {
    let c = at - r.base;
    let v = backwardAt(r, means, at);
    if (C % 4u == 0u) {
      dropped[at / 4u] = toDropped(keep4(v * dropoutFactor4(dropoutKey, slot, place + c)));
    } else {
      for (var k = 0u; k < min(4u, C - c); k++) {
        dropped[(at + k) / 4u][(at + k) % 4u] = toDropped(keep4(v * dropoutFactor(dropoutKey, slot, place + c + k)))[k];
      }
    }
  }
}

@compute @workgroup_size(LANES * ROWS)
fn backwardRounded(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let r = savedRow(group, local);
  let means = meansOf(gradientsInRow(r));
  if (r.index >= extent.rows) { return; }
  for (var at = r.base + 4u * r.lane; at < r.base + C; at += 4u * LANES) {
    let v = toDropped(backwardAt(r, means, at));
    if (C % 4u == 0u) {
      dropped[at / 4u] = v;
    } else {
      for (var k = 0u; k < min(4u, C - (at - r.base)); k++) { dropped[(at + k) / 4u][(at + k) % 4u] = v[k]; }
    }
  }
}
