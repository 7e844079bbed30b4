// Token and position embedding. The token table is bound in windows of whole rows. Forward and token gradient run once for
// each window and leave the tokens of other windows alone.
//
//   forward           x[r, c] = dropout(wte[tokens[r], c] + wpe[r mod T, c])
//   tokenGradient     wte[v] += the rows of dx whose token is v. The host lists rows sorted by token, so each element has
//                     one thread, which adds its rows in order: no float atomics.
//   positionGradient  wpe[t] += the rows r of dx with r mod T = t
//
// A stack has S = extent.stack micro-batches of M = extent.rows rows each, one below another. Each micro-batch is summed and
// rounded on its own. Unless the extent accumulates, the first one overwrites the sums. Exception: the token gradient
// always accumulates, because it writes only some rows of the table.
//
// tokens [S * M] u32; wte [ROWS, C], rows ROW_START.. of the table; wpe [T, C]; x, dx [S * M, C]; low, high: the sums of
// wte's window or of wpe.
// lists [1 + 3 R] u32, R = S * M, holds U distinct tokens:
//   at 0        U
//   at 1        the U tokens in rising order
//   at 1 + R    the U starts: token u's rows are those from its start to the next start, or to R
//   at 1 + 2 R  the R rows sorted by (token, row)
//! import arithmetic
//! import extent
//! import random
//! import rounding_exact  //! low: //! import rounding_low
//! import unit

alias Gradient = f32;  //! f16Gradient: alias Gradient = f16;

override T: u32 = 4u;
override C: u32 = 4u;
override ROW_START: u32 = 0u;
override ROWS: u32 = 16u;
override DROPOUT: bool = false;

@group(0) @binding(0) var<storage, read> tokens: array<u32>;
@group(0) @binding(1) var<storage, read> wte: array<f32>;
@group(0) @binding(2) var<storage, read> wpe: array<f32>;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;
@group(0) @binding(4) var<uniform> dropoutKey: DropoutKey;
@group(0) @binding(5) var<storage, read> dx: array<Gradient>;
@group(0) @binding(6) var<storage, read> lists: array<u32>;
@group(0) @binding(7) var<storage, read_write> low: array<u32>;
@group(0) @binding(8) var<storage, read_write> high: array<u32>;
@group(0) @binding(9) var<storage, read_write> status: atomic<u32>;

@compute @workgroup_size(64)
fn forward(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let c = group.x * 64u + local.x;
  let row = group.y;
  let token = tokens[row] - ROW_START;  // wraps to a large number where the token is below the window
  if (c >= C || token >= ROWS) { return; }
  let t = row % T;
  var value = settle(wte[token * C + c] + wpe[t * C + c]);
  if (DROPOUT) { value = settle(value * dropoutFactor(dropoutKey, dropoutKey.firstSlot + row / T, t * C + c)); }
  x[row * C + c] = value;
}

fn addToSum(at: u32, batch: u32, value: f32, accumulate: bool) {
  let bits = bitcast<u32>(inUnits(value));
  let statusBits = fixedPointStatus(bits);
  if (statusBits != 0u) { atomicOr(&status, statusBits); }
  var sum = integerOf(at, batch, bits);
  if (accumulate) { sum = add64(vec2u(low[at], high[at]), sum); }
  low[at] = sum.x;
  high[at] = sum.y;
}

@compute @workgroup_size(64)
fn tokenGradient(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let c = group.x * 64u + local.x;
  let u = group.y;
  let unique = lists[0];
  if (c >= C || u >= unique) { return; }
  let token = lists[1u + u] - ROW_START;
  if (token >= ROWS) { return; }
  let rows = extent.stack * extent.rows;
  var end = rows;
  if (u + 1u < unique) { end = lists[1u + rows + u + 1u]; }
  var sum = 0.0;
  var batch = lists[1u + 2u * rows + lists[1u + rows + u]] / extent.rows;
  for (var i = lists[1u + rows + u]; i < end; i++) {
    let row = lists[1u + 2u * rows + i];
    if (row / extent.rows != batch) {
      addToSum(token * C + c, batch, sum, true);
      sum = 0.0;
      batch = row / extent.rows;
    }
    sum = keep(sum + f32(dx[row * C + c]));
  }
  addToSum(token * C + c, batch, sum, true);
}

@compute @workgroup_size(64)
fn positionGradient(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let c = group.x * 64u + local.x;
  let t = group.y;
  if (c >= C) { return; }
  for (var s = 0u; s < extent.stack; s++) {
    var sum = 0.0;
    for (var row = s * extent.rows + t; row < (s + 1u) * extent.rows; row += T) { sum = keep(sum + f32(dx[row * C + c])); }
    addToSum(t * C + c, s, sum, extent.accumulate != 0u || s > 0u);
  }
}
