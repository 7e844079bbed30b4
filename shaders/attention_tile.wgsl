//! import random
//! import loops
//! import f16_range
//! import attention_native  //! portable: //! import attention_portable
//! import attention_tile_native  //! portable: //! import attention_tile_portable
// Causal multi-head attention, forward and backward, for any adapter: workgroup memory, no features, default limits.
//
//   S = scale Q K^T (keys up to the query's own)      P = softmax(S)      O = (F * P) V
//
// F is the dropout factor, 0 or 1 / (1 - p). The T x T matrices never exist: keys pass by in blocks under a running
// maximum m and sum l (FlashAttention, Dao et al., arXiv 2205.14135; loop order of arXiv 2307.08691). Backward computes P
// again from the row's logsumexp L = m + log l:
//
//   P = exp(S - L)      delta_i = sum_d dO_id O_id      dP = F * (dO V^T)      dS = P * (dP - delta)
//   dV = (F * P)^T dO      dQ = scale dS K      dK = scale dS^T Q
//
// backwardQuery owns blocks of queries, backwardKey blocks of keys. One workgroup writes each output, in a fixed order,
// without atomics. The price is that S and dP are computed twice.
//
// Buffers (float32, row-major; C = HEADS * D, head h at columns h * D ...):
//   qkv, qkvGradient                    [B * T, 3 C]   columns q | k | v
//   out (outRead), outGradient          [B * T, C]
//   logsumexp (-Read), delta (-Read)    [B, HEADS, T]  delta is scratch, from backwardDelta
//
// A workgroup of 64 threads, 8 x 8, owns 32 rows. Operands come through workgroup memory in pieces of 32 rows x 32
// dimensions; a thread holds 4 x 4 scores and 4 rows x 4 dimensions of each piece of the result, so that eight vec4
// reads feed 64 multiply-adds. The pieces are swizzled against bank conflicts. Three of them and the reduction take
// 13 KiB. Rows are loaded by scalars, so D may be any number.
//
// With `f16`, qkv, out and their gradients are float16; workgroup memory, scores and sums are always float32.
// The sums are in attention_tile_native.wgsl, or in portable arithmetic in attention_tile_portable.wgsl.
// More than 300 lines, because forward and both halves of backward share the blocks in workgroup memory.

alias Value = f32;  //! f16: alias Value = f16;
fn toValue(v: f32) -> f32 { return v; }  //! f16: fn toValue(v: f32) -> f16 { return f16(f16Range(v)); }

override T: u32 = 64u;
override HEADS: u32 = 4u;
override D: u32 = 32u;  // 1 .. 128
override DROPOUT: bool = false;

@group(0) @binding(0) var<storage, read> qkv: array<Value>;
@group(0) @binding(1) var<storage, read_write> out: array<Value>;
@group(0) @binding(2) var<storage, read_write> logsumexp: array<f32>;
@group(0) @binding(3) var<storage, read> outRead: array<Value>;
@group(0) @binding(4) var<storage, read> logsumexpRead: array<f32>;
@group(0) @binding(5) var<storage, read> outGradient: array<Value>;
@group(0) @binding(6) var<storage, read_write> delta: array<f32>;
@group(0) @binding(7) var<storage, read> deltaRead: array<f32>;
@group(0) @binding(8) var<storage, read_write> qkvGradient: array<Value>;
@group(0) @binding(9) var<uniform> dropout: DropoutKey;

const ROWS = 32u;  // of a block, and the dimensions of a piece
const LOWEST = -1e30;  // stands for minus infinity

// Pieces of 32 x 8 vec4f in workgroup memory.
const LEFT = 0u;
const RIGHT = 256u;
const SCORES = 512u;
var<workgroup> pieces: array<vec4f, 768>;
var<workgroup> reduction: array<vec4f, 64>;

// A copy of the uniform. Only entry points with dropout read the uniform, so the others need not bind it.
var<private> dropoutKey: DropoutKey;

// A thread's place: sequence b, head h, thread (y, x) of 8 x 8; `batch` counts the sequences.
struct Place { b: u32, h: u32, y: u32, x: u32, thread: u32, batch: u32 }

fn placeOf(group: vec3u, groups: vec3u, thread: u32) -> Place {
  return Place(group.z, group.y, thread >> 3u, thread & 7u, thread, groups.z);
}

// Four rows of four values: scores, or one piece of a result.
struct Four { a: vec4f, b: vec4f, c: vec4f, d: vec4f }

// The index of vec4 q of a row, within its piece.
fn swizzled(row: u32, q: u32) -> u32 { return row * 8u + (q ^ ((row >> 2u) & 7u)); }

// Dimensions d .. d + 3 of token i: part 0 is q, 1 k, 2 v. Zero outside.
fn qkvAt(p: Place, part: u32, i: u32, d: u32) -> vec4f {
  var v = vec4f();
  if (i < T && d < D) {
    let at = ((p.b * T + i) * 3u + part) * HEADS * D + p.h * D + d;
    v.x = f32(qkv[at]);
    if (d + 1u < D) { v.y = f32(qkv[at + 1u]); }
    if (d + 2u < D) { v.z = f32(qkv[at + 2u]); }
    if (d + 3u < D) { v.w = f32(qkv[at + 3u]); }
  }
  return v;
}

fn outGradientAt(p: Place, i: u32, d: u32) -> vec4f {
  var v = vec4f();
  if (i < T && d < D) {
    let at = ((p.b * T + i) * HEADS + p.h) * D + d;
    v.x = f32(outGradient[at]);
    if (d + 1u < D) { v.y = f32(outGradient[at + 1u]); }
    if (d + 2u < D) { v.z = f32(outGradient[at + 2u]); }
    if (d + 3u < D) { v.w = f32(outGradient[at + 3u]); }
  }
  return v;
}

fn loadQkv(piece: u32, p: Place, part: u32, row: u32, d: u32) {
  for (var n = p.thread; n < rounds(256u, p.batch); n += 64u) {
    pieces[piece + swizzled(n >> 3u, n & 7u)] = qkvAt(p, part, row + (n >> 3u), d + (n & 7u) * 4u);
  }
}

fn loadOutGradient(piece: u32, p: Place, row: u32, d: u32) {
  for (var n = p.thread; n < rounds(256u, p.batch); n += 64u) {
    pieces[piece + swizzled(n >> 3u, n & 7u)] = outGradientAt(p, row + (n >> 3u), d + (n & 7u) * 4u);
  }
}

fn rowsOf(piece: u32, row: u32, q: u32) -> Four {
  return Four(
    pieces[piece + swizzled(row, q)], pieces[piece + swizzled(row + 1u, q)],
    pieces[piece + swizzled(row + 2u, q)], pieces[piece + swizzled(row + 3u, q)]);
}

// s + LEFT RIGHT^T, summed over the 32 dimensions of the pieces.
fn addProductTransposed(s: Four, p: Place) -> Four {
  var t = s;
  for (var q = 0u; q < rounds(8u, p.batch); q++) {
    let l = rowsOf(LEFT, p.y * 4u, q);
    let r = rowsOf(RIGHT, p.x * 4u, q);
    t.a = addDots(t.a, l.a, r);
    t.b = addDots(t.b, l.b, r);
    t.c = addDots(t.c, l.c, r);
    t.d = addDots(t.d, l.d, r);
  }
  return t;
}

// o + SCORES RIGHT, summed over rows 4 start .. 4 (start + count) - 1 of RIGHT.
fn addProductOf(o: Four, p: Place, start: u32, count: u32) -> Four {
  var t = o;
  for (var n = 0u; n < rounds(count, p.batch); n++) {
    let q = start + n;
    let s = rowsOf(SCORES, p.y * 4u, q);
    let r = rowsOf(RIGHT, q * 4u, p.x);
    t.a = addCombined(t.a, s.a, r);
    t.b = addCombined(t.b, s.b, r);
    t.c = addCombined(t.c, s.c, r);
    t.d = addCombined(t.d, s.d, r);
  }
  return t;
}

// The same, summed over all 32 rows.
fn addProduct(o: Four, p: Place) -> Four { return addProductOf(o, p, 0u, 8u); }

fn storeScores(p: Place, s: Four) {
  pieces[SCORES + swizzled(p.y * 4u, p.x)] = s.a;
  pieces[SCORES + swizzled(p.y * 4u + 1u, p.x)] = s.b;
  pieces[SCORES + swizzled(p.y * 4u + 2u, p.x)] = s.c;
  pieces[SCORES + swizzled(p.y * 4u + 3u, p.x)] = s.d;
}

// Q K^T or K Q^T: the rows of `left` are at leftRow, those of `right` at rightRow.
fn scoresOf(p: Place, left: u32, leftRow: u32, right: u32, rightRow: u32) -> Four {
  var s = Four();
  for (var d = 0u; d < D; d += ROWS) {
    workgroupBarrier();
    loadQkv(LEFT, p, left, leftRow, d);
    loadQkv(RIGHT, p, right, rightRow, d);
    workgroupBarrier();
    s = addProductTransposed(s, p);
  }
  return Four(scaled4(s.a), scaled4(s.b), scaled4(s.c), scaled4(s.d));
}

fn addValues(o: Four, p: Place, part: u32, row: u32, d: u32) -> Four {
  workgroupBarrier();
  loadQkv(RIGHT, p, part, row, d);
  workgroupBarrier();
  return addProduct(o, p);
}

fn addGradients(o: Four, p: Place, row: u32, d: u32) -> Four {
  workgroupBarrier();
  loadOutGradient(RIGHT, p, row, d);
  workgroupBarrier();
  return addProduct(o, p);
}

// The dropout factors of query i and keys j .. j + 3; j is a multiple of 4.
fn factorsOf(p: Place, i: u32, j: u32) -> vec4f {
  if (!DROPOUT) { return vec4f(1.0); }
  let slot = dropoutKey.firstSlot + p.b;
  let place = (p.h * T + i) * T + j;
  if (T % 2u == 0u) { return dropoutFactor4(dropoutKey, slot, place); }
  return vec4f(
    dropoutFactor(dropoutKey, slot, place), dropoutFactor(dropoutKey, slot, place + 1u),
    dropoutFactor(dropoutKey, slot, place + 2u), dropoutFactor(dropoutKey, slot, place + 3u));
}

fn keysUpTo(i: u32, j: u32) -> vec4<bool> { return vec4u(j, j + 1u, j + 2u, j + 3u) <= vec4u(i); }

fn max4(v: vec4f) -> f32 { return max(max(v.x, v.y), max(v.z, v.w)); }

fn storeOutRow(p: Place, i: u32, d: u32, v: vec4f) {
  if (i >= T || d >= D) { return; }
  let at = ((p.b * T + i) * HEADS + p.h) * D + d;
  out[at] = toValue(v.x);
  if (d + 1u < D) { out[at + 1u] = toValue(v.y); }
  if (d + 2u < D) { out[at + 2u] = toValue(v.z); }
  if (d + 3u < D) { out[at + 3u] = toValue(v.w); }
}

fn storeOut(p: Place, i: u32, piece: u32, o: Four) {
  let d = piece * ROWS + p.x * 4u;
  storeOutRow(p, i, d, o.a);
  storeOutRow(p, i + 1u, d, o.b);
  storeOutRow(p, i + 2u, d, o.c);
  storeOutRow(p, i + 3u, d, o.d);
}

fn storeGradientRow(p: Place, part: u32, i: u32, d: u32, v: vec4f) {
  if (i >= T || d >= D) { return; }
  let at = ((p.b * T + i) * 3u + part) * HEADS * D + p.h * D + d;
  qkvGradient[at] = toValue(v.x);
  if (d + 1u < D) { qkvGradient[at + 1u] = toValue(v.y); }
  if (d + 2u < D) { qkvGradient[at + 2u] = toValue(v.z); }
  if (d + 3u < D) { qkvGradient[at + 3u] = toValue(v.w); }
}

fn storeGradient(p: Place, part: u32, i: u32, piece: u32, o: Four) {
  let d = piece * ROWS + p.x * 4u;
  storeGradientRow(p, part, i, d, o.a);
  storeGradientRow(p, part, i + 1u, d, o.b);
  storeGradientRow(p, part, i + 2u, d, o.c);
  storeGradientRow(p, part, i + 3u, d, o.d);
}

fn storeLogsumexps(p: Place, i: u32, v: vec4f) {
  if (p.x > 0u) { return; }
  let at = (p.b * HEADS + p.h) * T + i;
  if (i < T) { logsumexp[at] = v.x; }
  if (i + 1u < T) { logsumexp[at + 1u] = v.y; }
  if (i + 2u < T) { logsumexp[at + 2u] = v.z; }
  if (i + 3u < T) { logsumexp[at + 3u] = v.w; }
}

// The logsumexps, or the deltas, of tokens i .. i + 3.
fn logsumexpsAt(p: Place, i: u32) -> vec4f {
  let at = (p.b * HEADS + p.h) * T;
  let last = T - 1u;
  return vec4f(
    logsumexpRead[at + min(i, last)], logsumexpRead[at + min(i + 1u, last)],
    logsumexpRead[at + min(i + 2u, last)], logsumexpRead[at + min(i + 3u, last)]);
}

fn deltasAt(p: Place, i: u32) -> vec4f {
  let at = (p.b * HEADS + p.h) * T;
  let last = T - 1u;
  return vec4f(
    deltaRead[at + min(i, last)], deltaRead[at + min(i + 1u, last)],
    deltaRead[at + min(i + 2u, last)], deltaRead[at + min(i + 3u, last)]);
}

fn scoreGradient(p: Place, i: u32, j: u32, s: vec4f, dp: vec4f, lse: f32, delta: f32) -> vec4f {
  let gradient = rounded4(probabilities4(s, vec4f(lse)) * keep4(keep4(factorsOf(p, i, j) * dp) - delta));
  return select(vec4f(), gradient, keysUpTo(i, j));
}

fn runBackwardQuery(group: vec3u, groups: vec3u, thread: u32) {
  let p = placeOf(group, groups, thread);
  let first = (groups.x - 1u - group.x) * ROWS;
  let i = first + p.y * 4u;
  let lse = logsumexpsAt(p, i);
  let del = deltasAt(p, i);
  var g0 = Four(); var g1 = Four(); var g2 = Four(); var g3 = Four();
  for (var key = 0u; key <= first; key += ROWS) {
    let s = scoresOf(p, 0u, first, 1u, key);
    var dp = Four();
    for (var d = 0u; d < D; d += ROWS) {
      workgroupBarrier();
      loadOutGradient(LEFT, p, first, d);
      loadQkv(RIGHT, p, 2u, key, d);
      workgroupBarrier();
      dp = addProductTransposed(dp, p);
    }
    let j = key + p.x * 4u;
    storeScores(p, Four(
      scoreGradient(p, i, j, s.a, dp.a, lse.x, del.x), scoreGradient(p, i + 1u, j, s.b, dp.b, lse.y, del.y),
      scoreGradient(p, i + 2u, j, s.c, dp.c, lse.z, del.z), scoreGradient(p, i + 3u, j, s.d, dp.d, lse.w, del.w)));
    g0 = addValues(g0, p, 1u, key, 0u);
    if (D > 32u) { g1 = addValues(g1, p, 1u, key, 32u); }
    if (D > 64u) { g2 = addValues(g2, p, 1u, key, 64u); }
    if (D > 96u) { g3 = addValues(g3, p, 1u, key, 96u); }
  }
  storeGradient(p, 0u, i, 0u, scaledResult(g0));
  if (D > 32u) { storeGradient(p, 0u, i, 1u, scaledResult(g1)); }
  if (D > 64u) { storeGradient(p, 0u, i, 2u, scaledResult(g2)); }
  if (D > 96u) { storeGradient(p, 0u, i, 3u, scaledResult(g3)); }
}

fn keyGradient(w: vec4f, f: vec4f, dp: vec4f, delta: vec4f) -> vec4f {
  return rounded4(w * keep4(keep4(f * dp) - delta));
}

// Here a thread's rows are keys j .. j + 3 and its columns queries i .. i + 3.
fn runBackwardKey(group: vec3u, groups: vec3u, thread: u32) {
  let p = placeOf(group, groups, thread);
  let first = group.x * ROWS;
  let j = first + p.y * 4u;
  var v0 = Four(); var v1 = Four(); var v2 = Four(); var v3 = Four();
  var k0 = Four(); var k1 = Four(); var k2 = Four(); var k3 = Four();
  for (var query = first; query < T; query += ROWS) {
    let i = query + p.x * 4u;
    let s = scoresOf(p, 1u, first, 0u, query);
    let lse = logsumexpsAt(p, i);
    let queries = vec4u(i, i + 1u, i + 2u, i + 3u);
    let inside = queries < vec4u(T);
    let zero = vec4f();
    var w = Four(
      select(zero, probabilities4(s.a, lse), inside & (queries >= vec4u(j))),
      select(zero, probabilities4(s.b, lse), inside & (queries >= vec4u(j + 1u))),
      select(zero, probabilities4(s.c, lse), inside & (queries >= vec4u(j + 2u))),
      select(zero, probabilities4(s.d, lse), inside & (queries >= vec4u(j + 3u))));
    // Four keys of a query share two blocks of random bits, so the factors are made by query and then transposed.
    var f = Four(vec4f(1.0), vec4f(1.0), vec4f(1.0), vec4f(1.0));
    if (DROPOUT) {
      let c = Four(factorsOf(p, i, j), factorsOf(p, i + 1u, j), factorsOf(p, i + 2u, j), factorsOf(p, i + 3u, j));
      f = Four(
        vec4f(c.a.x, c.b.x, c.c.x, c.d.x), vec4f(c.a.y, c.b.y, c.c.y, c.d.y),
        vec4f(c.a.z, c.b.z, c.c.z, c.d.z), vec4f(c.a.w, c.b.w, c.c.w, c.d.w));
    }
    storeScores(p, Four(rounded4(w.a * f.a), rounded4(w.b * f.b), rounded4(w.c * f.c), rounded4(w.d * f.d)));
    v0 = addGradients(v0, p, query, 0u);
    if (D > 32u) { v1 = addGradients(v1, p, query, 32u); }
    if (D > 64u) { v2 = addGradients(v2, p, query, 64u); }
    if (D > 96u) { v3 = addGradients(v3, p, query, 96u); }
    var dp = Four();
    for (var d = 0u; d < D; d += ROWS) {
      workgroupBarrier();
      loadQkv(LEFT, p, 2u, first, d);
      loadOutGradient(RIGHT, p, query, d);
      workgroupBarrier();
      dp = addProductTransposed(dp, p);
    }
    let del = deltasAt(p, i);
    storeScores(p, Four(
      keyGradient(w.a, f.a, dp.a, del), keyGradient(w.b, f.b, dp.b, del),
      keyGradient(w.c, f.c, dp.c, del), keyGradient(w.d, f.d, dp.d, del)));
    k0 = addValues(k0, p, 0u, query, 0u);
    if (D > 32u) { k1 = addValues(k1, p, 0u, query, 32u); }
    if (D > 64u) { k2 = addValues(k2, p, 0u, query, 64u); }
    if (D > 96u) { k3 = addValues(k3, p, 0u, query, 96u); }
  }
  storeGradient(p, 2u, j, 0u, result(v0));
  if (D > 32u) { storeGradient(p, 2u, j, 1u, result(v1)); }
  if (D > 64u) { storeGradient(p, 2u, j, 2u, result(v2)); }
  if (D > 96u) { storeGradient(p, 2u, j, 3u, result(v3)); }
  storeGradient(p, 1u, j, 0u, scaledResult(k0));
  if (D > 32u) { storeGradient(p, 1u, j, 1u, scaledResult(k1)); }
  if (D > 64u) { storeGradient(p, 1u, j, 2u, scaledResult(k2)); }
  if (D > 96u) { storeGradient(p, 1u, j, 3u, scaledResult(k3)); }
}

@compute @workgroup_size(64)
fn forward(
  @builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) thread: u32) {
  runForward(group, groups, thread);
}

@compute @workgroup_size(64)
fn forwardDropout(
  @builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) thread: u32) {
  dropoutKey = dropout;
  runForward(group, groups, thread);
}

// delta of 8 tokens, 8 threads each.
@compute @workgroup_size(64)
fn backwardDelta(
  @builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) thread: u32) {
  let p = placeOf(group, groups, thread);
  let i = group.x * 8u + p.y;
  let sum = sumOfProducts(p, i);
  if (p.x == 0u && i < T) { delta[(p.b * HEADS + p.h) * T + i] = sum; }
}

@compute @workgroup_size(64)
fn backwardQuery(
  @builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) thread: u32) {
  runBackwardQuery(group, groups, thread);
}

@compute @workgroup_size(64)
fn backwardQueryDropout(
  @builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) thread: u32) {
  dropoutKey = dropout;
  runBackwardQuery(group, groups, thread);
}

@compute @workgroup_size(64)
fn backwardKey(
  @builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) thread: u32) {
  runBackwardKey(group, groups, thread);
}

@compute @workgroup_size(64)
fn backwardKeyDropout(
  @builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) thread: u32) {
  dropoutKey = dropout;
  runBackwardKey(group, groups, thread);
}
