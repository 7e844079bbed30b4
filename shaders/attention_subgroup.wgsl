enable subgroups;
//! import random
//! import attention_native  //! portable: //! import attention_portable
//! import attention_subgroup_native  //! portable: //! import attention_subgroup_portable
// Causal multi-head attention, forward and backward, for software adapters. Their subgroups always have LANES lanes: 4
// (SwiftShader), 8 (lavapipe) or 16.
// Formulas and buffers as in attention_tile.wgsl (FlashAttention, Dao et al., arXiv 2205.14135 and 2307.08691):
//
//   S = scale Q K^T (keys up to the query's own)      P = exp(S - L)      O = (F * P) V
//   delta_i = sum_d dO_id O_id      dP = F * (dO V^T)      dS = P * (dP - delta)
//   dV = (F * P)^T dO      dQ = scale dS K      dK = scale dS^T Q
//
//   qkv, qkvGradient                    [B * T, 3 C]   columns q | k | v, as vec4f: D is a multiple of 4
//   out (outRead), outGradient          [B * T, C]
//   logsumexp (-Read), delta (-Read)    [B, HEADS, T]  delta is scratch: backwardQuery writes it, backwardKey reads it
//
// A workgroup is one subgroup and owns 2 LANES rows: queries in forward and backwardQuery, keys in backwardKey. Lane n
// holds rows n and n + LANES whole, so softmax needs no other lane. The other rows pass by, 16 at a time. Lane n loads rows
// n, n + LANES and so on of them, and constant shuffles spread them to all lanes. A load costs about ten multiply-adds here
// (a loop over the lanes), a load from workgroup memory six, a shuffle one instruction. With 8 lanes, 16 loaded components
// feed 128 multiply-adds.
// A loop walks over a head's columns in vec4s. The result is read and written again for each block of 16 rows: holding q and
// the result in registers is no faster, and LLVM takes many seconds to compile the unrolled code. A lane's own rows lie in
// workgroup memory where they fit (KEPT), because no bounds are checked there. 32 passing rows would spill the scores, and
// so would S and dP in one loop. Loops over columns begin at the head's first column, which the compiler does not know: it
// would unroll a loop from zero.
// The sums are in attention_subgroup_native.wgsl, or in portable arithmetic in attention_subgroup_portable.wgsl.
// More than 300 lines, because forward and both halves of backward read rows by the same shuffles.

override LANES: u32 = 8u;
override T: u32 = 64u;
override HEADS: u32 = 4u;
override D: u32 = 32u;
override DROPOUT: bool = false;

// Whether 8 rows of D values for each lane fit into workgroup memory.
override KEPT: bool = false;

@group(0) @binding(0) var<storage, read> qkv: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> out: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> logsumexp: array<f32>;
@group(0) @binding(3) var<storage, read> outRead: array<vec4f>;
@group(0) @binding(4) var<storage, read> logsumexpRead: array<f32>;
@group(0) @binding(5) var<storage, read> outGradient: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> delta: array<f32>;
@group(0) @binding(7) var<storage, read> deltaRead: array<f32>;
@group(0) @binding(8) var<storage, read_write> qkvGradient: array<vec4f>;
@group(0) @binding(9) var<uniform> dropout: DropoutKey;

const PASSING = 16u;
const LOWEST = -1e30;  // stands for minus infinity

// A copy of the uniform. Only entry points with dropout read the uniform, so the others need not bind it.
var<private> dropoutKey: DropoutKey;

// A lane's two rows of 16 scores: a .. d for its first row, e .. h for its second.
struct Scores { a: vec4f, b: vec4f, c: vec4f, d: vec4f, e: vec4f, f: vec4f, g: vec4f, h: vec4f }

struct Four { a: vec4f, b: vec4f, c: vec4f, d: vec4f }

// A lane's passing rows: r0 is row `lane`, r1 row lane + LANES, and so on; r2 and r3 exist with 4 lanes only.
struct Passing { r0: vec4f, r1: vec4f, r2: vec4f, r3: vec4f }

// Passing rows n .. n + 3, in all lanes; n is a constant multiple of 4.
fn spread(r: Passing, n: u32) -> Four {
  var v = r.r0;
  if (n / LANES == 1u) { v = r.r1; }
  if (n / LANES == 2u) { v = r.r2; }
  if (n / LANES == 3u) { v = r.r3; }
  let lane = n % LANES;
  return Four(
    subgroupShuffle(v, lane), subgroupShuffle(v, lane + 1u),
    subgroupShuffle(v, lane + 2u), subgroupShuffle(v, lane + 3u));
}

// Adds the products of the lane's rows (l0, l1) with the passing rows, over four dimensions.
fn addScores(s: Scores, l0: vec4f, l1: vec4f, r: Passing) -> Scores {
  let a = spread(r, 0u);
  let b = spread(r, 4u);
  let c = spread(r, 8u);
  let d = spread(r, 12u);
  return Scores(
    addDots(s.a, l0, a), addDots(s.b, l0, b), addDots(s.c, l0, c), addDots(s.d, l0, d),
    addDots(s.e, l1, a), addDots(s.f, l1, b), addDots(s.g, l1, c), addDots(s.h, l1, d));
}

struct Two { a: vec4f, b: vec4f }

fn product(s: Scores, t: Scores) -> Scores {
  return Scores(
    keep4(s.a * t.a), keep4(s.b * t.b), keep4(s.c * t.c), keep4(s.d * t.d),
    keep4(s.e * t.e), keep4(s.f * t.f), keep4(s.g * t.g), keep4(s.h * t.h));
}

fn operands(s: Scores) -> Scores {
  return Scores(
    rounded4(s.a), rounded4(s.b), rounded4(s.c), rounded4(s.d),
    rounded4(s.e), rounded4(s.f), rounded4(s.g), rounded4(s.h));
}

fn scaled(s: Scores) -> Scores {
  return Scores(
    scaled4(s.a), scaled4(s.b), scaled4(s.c), scaled4(s.d), scaled4(s.e), scaled4(s.f), scaled4(s.g), scaled4(s.h));
}

// For the maximum of each of the two rows.
fn exponentials(s: Scores, m: vec2f) -> Scores {
  let x = vec4f(m.x);
  let y = vec4f(m.y);
  return Scores(
    exponentials4(s.a, x), exponentials4(s.b, x), exponentials4(s.c, x), exponentials4(s.d, x),
    exponentials4(s.e, y), exponentials4(s.f, y), exponentials4(s.g, y), exponentials4(s.h, y));
}

fn probabilities(s: Scores, lse0: f32, lse1: f32) -> Scores {
  let x = vec4f(lse0);
  let y = vec4f(lse1);
  return Scores(
    probabilities4(s.a, x), probabilities4(s.b, x), probabilities4(s.c, x), probabilities4(s.d, x),
    probabilities4(s.e, y), probabilities4(s.f, y), probabilities4(s.g, y), probabilities4(s.h, y));
}

fn four(n: u32) -> vec4u { return vec4u(n, n + 1u, n + 2u, n + 3u); }

// The scores of the lane's queries i, i + LANES and keys j .. j + 15; `masked` where the key is later than the query.
fn maskLaterKeys(s: Scores, i: u32, j: u32, masked: f32) -> Scores {
  let m = vec4f(masked);
  let x = vec4u(i);
  let y = vec4u(i + LANES);
  return Scores(
    select(m, s.a, four(j) <= x), select(m, s.b, four(j + 4u) <= x),
    select(m, s.c, four(j + 8u) <= x), select(m, s.d, four(j + 12u) <= x),
    select(m, s.e, four(j) <= y), select(m, s.f, four(j + 4u) <= y),
    select(m, s.g, four(j + 8u) <= y), select(m, s.h, four(j + 12u) <= y));
}

// The scores of the lane's keys j, j + LANES and queries i .. i + 15; zero where the query is earlier or does not exist.
fn maskEarlierQueries(s: Scores, j: u32, i: u32) -> Scores {
  let z = vec4f();
  let x = vec4u(j);
  let y = vec4u(j + LANES);
  let t = vec4u(T);
  let a = four(i);
  let b = four(i + 4u);
  let c = four(i + 8u);
  let d = four(i + 12u);
  return Scores(
    select(z, s.a, (a >= x) & (a < t)), select(z, s.b, (b >= x) & (b < t)),
    select(z, s.c, (c >= x) & (c < t)), select(z, s.d, (d >= x) & (d < t)),
    select(z, s.e, (a >= y) & (a < t)), select(z, s.f, (b >= y) & (b < t)),
    select(z, s.g, (c >= y) & (c < t)), select(z, s.h, (d >= y) & (d < t)));
}

// The dropout factors of query i and keys j .. j + 3; j is a multiple of 4. `row` is h * T + i.
fn factorsOfQuery(slot: u32, row: u32, j: u32) -> vec4f {
  let place = row * T + j;
  if (T % 2u == 0u) { return dropoutFactor4(dropoutKey, slot, place); }
  return vec4f(
    dropoutFactor(dropoutKey, slot, place), dropoutFactor(dropoutKey, slot, place + 1u),
    dropoutFactor(dropoutKey, slot, place + 2u), dropoutFactor(dropoutKey, slot, place + 3u));
}

// A loop over the four columns of vec4s, because Threefry inlined four times is long code.
fn queryFactors(slot: u32, row: u32, j: u32) -> Scores {
  var r = Scores();
  for (var n = 0u; n < 4u; n++) {
    let x = factorsOfQuery(slot, row, j + 4u * n);
    let y = factorsOfQuery(slot, row + LANES, j + 4u * n);
    if (n == 0u) { r.a = x; r.e = y; }
    if (n == 1u) { r.b = x; r.f = y; }
    if (n == 2u) { r.c = x; r.g = y; }
    if (n == 3u) { r.d = x; r.h = y; }
  }
  return r;
}

// The factors of key j and the queries of rows row .. row + 3. Where T is even, keys 2n and 2n + 1 (neighbouring lanes)
// share a block of random bits: the even lane makes those of the first and third query, the odd lane the others.
fn factorsOfKey(slot: u32, row: u32, j: u32) -> vec4f {
  if (T % 2u == 1u) {
    return vec4f(
      dropoutFactor(dropoutKey, slot, row * T + j), dropoutFactor(dropoutKey, slot, (row + 1u) * T + j),
      dropoutFactor(dropoutKey, slot, (row + 2u) * T + j), dropoutFactor(dropoutKey, slot, (row + 3u) * T + j));
  }
  let k = vec2u(dropoutKey.k0, dropoutKey.k1);
  let odd = (j & 1u) == 1u;
  let mine = ((row + (j & 1u)) * T + j) >> 1u;
  let p = threefry(k, vec2u(slot, mine));
  let q = threefry(k, vec2u(slot, mine + T));
  let theirs = subgroupShuffleXor(vec2u(select(p.y, p.x, odd), select(q.y, q.x, odd)), 1u);
  let words = select(vec4u(p.x, theirs.x, q.x, theirs.y), vec4u(theirs.x, p.y, theirs.y, q.y), odd);
  return select(vec4f(dropoutKey.scale), vec4f(), words < vec4u(dropoutKey.threshold));
}

fn keyFactors(slot: u32, row: u32, j: u32) -> Scores {
  var r = Scores();
  for (var n = 0u; n < 4u; n++) {
    let x = factorsOfKey(slot, row + 4u * n, j);
    let y = factorsOfKey(slot, row + 4u * n, j + LANES);
    if (n == 0u) { r.a = x; r.e = y; }
    if (n == 1u) { r.b = x; r.f = y; }
    if (n == 2u) { r.c = x; r.g = y; }
    if (n == 3u) { r.d = x; r.h = y; }
  }
  return r;
}

// A lane's own rows and results, [column][row][lane]. A lane touches only its own, so no barrier is needed.
var<workgroup> kept: array<vec4f, select(1u, 2u * D * LANES, KEPT)>;

fn keptAt(c: u32, row: u32, lane: u32) -> u32 { return (c * 8u + row) * LANES + lane; }

fn max4(v: vec4f) -> f32 { return max(max(v.x, v.y), max(v.z, v.w)); }

// Where token i of sequence b starts in qkv and in out, in vec4s. Tokens past the last one read the last one; their results
// are masked or not stored.
fn qkvRow(b: u32, i: u32) -> u32 { return (b * T + min(i, T - 1u)) * 3u * HEADS * (D / 4u); }
fn outRow(b: u32, i: u32) -> u32 { return (b * T + min(i, T - 1u)) * HEADS * (D / 4u); }

// Where the lane's passing rows start; its first one is token i. Rows that the lane does not hold are not read.
fn qkvRows(b: u32, i: u32) -> vec4u {
  return vec4u(qkvRow(b, i), qkvRow(b, i + LANES), qkvRow(b, i + 2u * LANES), qkvRow(b, i + 3u * LANES));
}
fn outRows(b: u32, i: u32) -> vec4u {
  return vec4u(outRow(b, i), outRow(b, i + LANES), outRow(b, i + 2u * LANES), outRow(b, i + 3u * LANES));
}

fn passingQkv(rows: vec4u, c: u32) -> Passing {
  var r: Passing;
  r.r0 = qkv[rows.x + c];
  if (LANES < 16u) { r.r1 = qkv[rows.y + c]; }
  if (LANES < 8u) {
    r.r2 = qkv[rows.z + c];
    r.r3 = qkv[rows.w + c];
  }
  return r;
}

fn passingGradient(rows: vec4u, c: u32) -> Passing {
  var r: Passing;
  r.r0 = outGradient[rows.x + c];
  if (LANES < 16u) { r.r1 = outGradient[rows.y + c]; }
  if (LANES < 8u) {
    r.r2 = outGradient[rows.z + c];
    r.r3 = outGradient[rows.w + c];
  }
  return r;
}

fn keepRows(at: u32, rows: Two) {
  kept[at] = rows.a;
  kept[at + LANES] = rows.b;
}

fn keptRows(at: u32) -> Two { return Two(kept[at], kept[at + LANES]); }

// Two of a lane's own rows, from workgroup memory or from the buffer.
fn ownRows(at: u32, rows: vec2u) -> Two {
  if (KEPT) { return keptRows(at); }
  return Two(qkv[rows.x], qkv[rows.y]);
}

fn ownOutGradients(at: u32, rows: vec2u) -> Two {
  if (KEPT) { return keptRows(at); }
  return Two(outGradient[rows.x], outGradient[rows.y]);
}

fn ownOutputs(at: u32, rows: vec2u) -> Two {
  if (KEPT) { return keptRows(at); }
  return Two(out[rows.x], out[rows.y]);
}

fn ownQkvGradients(at: u32, rows: vec2u) -> Two {
  if (KEPT) { return keptRows(at); }
  return Two(qkvGradient[rows.x], qkvGradient[rows.y]);
}

fn storeOutputs(v: Two, rows: vec2u, exists: vec2<bool>) {
  if (exists.x) { out[rows.x] = v.a; }
  if (exists.y) { out[rows.y] = v.b; }
}

fn storeQkvGradients(v: Two, rows: vec2u, exists: vec2<bool>) {
  if (exists.x) { qkvGradient[rows.x] = v.a; }
  if (exists.y) { qkvGradient[rows.y] = v.b; }
}

// Adds sum_n s_n r_n to two of a lane's rows of qkvGradient, or overwrites them.
fn addQkvGradients(s: Scores, r: Passing, at: u32, rows: vec2u, exists: vec2<bool>, accumulate: bool) {
  let v = nextQkvGradients(s, r, at, rows, accumulate);
  if (KEPT) {
    keepRows(at, v);
  } else {
    storeQkvGradients(v, rows, exists);
  }
}

fn runForward(group: vec3u, blocks: u32, lane: u32) {
  let b = group.z;
  let h = group.y;
  let first = (blocks - 1u - group.x) * 2u * LANES;  // the longest rows start first
  let endOfKeys = first + 2u * LANES;
  let i = first + lane;
  let start = h * (D / 4u);
  let end = start + D / 4u;
  let wide = HEADS * (D / 4u);  // from q to k, from k to v
  let q0 = qkvRow(b, i);
  let q1 = qkvRow(b, i + LANES);
  let o0 = outRow(b, i);
  let o1 = outRow(b, i + LANES);
  let exists = vec2(i < T, i + LANES < T);
  var m = vec2f(LOWEST);
  var l = vec2f();
  if (KEPT) {
    for (var c = start; c < end; c++) {
      keepRows(keptAt(c - start, 0u, lane), Two(qkv[q0 + c], qkv[q1 + c]));
    }
  }
  for (var key = 0u; key < endOfKeys; key += PASSING) {
    let k = qkvRows(b, key + lane) + wide;
    var s = Scores();
    for (var c = start; c < end; c++) {
      let own = ownRows(keptAt(c - start, 0u, lane), vec2u(q0, q1) + c);
      s = addScores(s, own.a, own.b, passingQkv(k, c));
    }
    s = maskLaterKeys(scaled(s), i, key, LOWEST);
    let top = maximum(max(m, vec2f(
      max4(max(max(s.a, s.b), max(s.c, s.d))), max4(max(max(s.e, s.f), max(s.g, s.h))))));
    var shrink = shrinkOf(m, top);
    m = top;
    s = exponentials(s, m);
    l = addSums(l, shrink, s);
    if (DROPOUT) { s = product(s, queryFactors(dropoutKey.firstSlot + b, h * T + i, key)); }
    let isLast = key + PASSING >= endOfKeys;
    s = operands(dividedScores(s, l, isLast));
    shrink = dividedShrink(shrink, l, isLast);
    for (var c = start; c < end; c++) {
      let at = keptAt(c - start, 2u, lane);
      let rows = vec2u(o0, o1) + c;
      let v = nextOutputs(s, passingQkv(k, wide + c), at, rows, shrink, key > 0u);
      if (KEPT) {
        keepRows(at, v);
      } else {
        storeOutputs(v, rows, exists);
      }
    }
  }
  if (KEPT || FINISHES) {
    let inverse = inverseOf(l);
    for (var c = start; c < end; c++) {
      let rows = vec2u(o0, o1) + c;
      storeOutputs(finished(ownOutputs(keptAt(c - start, 2u, lane), rows), inverse), rows, exists);
    }
  }
  let at = (b * HEADS + h) * T + i;
  let value = logsumexpOf(m, l);
  if (exists.x) { logsumexp[at] = value.x; }
  if (exists.y) { logsumexp[at + LANES] = value.y; }
}

fn runBackwardQuery(group: vec3u, blocks: u32, lane: u32) {
  let b = group.z;
  let h = group.y;
  let first = (blocks - 1u - group.x) * 2u * LANES;
  let endOfKeys = first + 2u * LANES;
  let i = first + lane;
  let start = h * (D / 4u);
  let end = start + D / 4u;
  let wide = HEADS * (D / 4u);
  let q0 = qkvRow(b, i);
  let q1 = qkvRow(b, i + LANES);
  let o0 = outRow(b, i);
  let o1 = outRow(b, i + LANES);
  let at = (b * HEADS + h) * T;
  let lse0 = logsumexpRead[at + min(i, T - 1u)];
  let lse1 = logsumexpRead[at + min(i + LANES, T - 1u)];
  let exists = vec2(i < T, i + LANES < T);
  var del0 = 0.0;
  var del1 = 0.0;
  for (var c = start; c < end; c++) {
    let g0 = outGradient[o0 + c];
    let g1 = outGradient[o1 + c];
    del0 = addDot(del0, outRead[o0 + c], g0);
    del1 = addDot(del1, outRead[o1 + c], g1);
    if (KEPT) {
      keepRows(keptAt(c - start, 0u, lane), Two(qkv[q0 + c], qkv[q1 + c]));
      keepRows(keptAt(c - start, 2u, lane), Two(g0, g1));
    }
  }
  del0 = settle(del0);
  del1 = settle(del1);
  if (exists.x) { delta[at + i] = del0; }
  if (exists.y) { delta[at + i + LANES] = del1; }
  for (var key = 0u; key < endOfKeys; key += PASSING) {
    let k = qkvRows(b, key + lane) + wide;
    var s = Scores();
    var dp = Scores();
    for (var c = start; c < end; c++) {
      let own = ownRows(keptAt(c - start, 0u, lane), vec2u(q0, q1) + c);
      s = addScores(s, own.a, own.b, passingQkv(k, c));
    }
    for (var c = start; c < end; c++) {
      let own = ownOutGradients(keptAt(c - start, 2u, lane), vec2u(o0, o1) + c);
      dp = addScores(dp, own.a, own.b, passingQkv(k, wide + c));
    }
    s = maskLaterKeys(scaled(s), i, key, LOWEST);
    s = probabilities(s, lse0, lse1);
    if (DROPOUT) { dp = product(dp, queryFactors(dropoutKey.firstSlot + b, h * T + i, key)); }
    s = scoreGradients(product(s, Scores(
      keep4(dp.a - del0), keep4(dp.b - del0), keep4(dp.c - del0), keep4(dp.d - del0),
      keep4(dp.e - del1), keep4(dp.f - del1), keep4(dp.g - del1), keep4(dp.h - del1))));
    for (var c = start; c < end; c++) {
      addQkvGradients(s, passingQkv(k, c), keptAt(c - start, 4u, lane), vec2u(q0, q1) + c, exists, key > 0u);
    }
  }
  if (KEPT || FINISHES) {
    for (var c = start; c < end; c++) {
      let rows = vec2u(q0, q1) + c;
      let v = ownQkvGradients(keptAt(c - start, 4u, lane), rows);
      storeQkvGradients(finished(v, vec2f(SCALE)), rows, exists);
    }
  }
}

// Like `spread`, with one scalar a row: v.x of row `lane`, v.y of row lane + LANES and so on.
fn spreadScalars(r: vec4f, n: u32) -> vec4f {
  var v = r.x;
  if (n / LANES == 1u) { v = r.y; }
  if (n / LANES == 2u) { v = r.z; }
  if (n / LANES == 3u) { v = r.w; }
  let lane = n % LANES;
  return vec4f(
    subgroupShuffle(v, lane), subgroupShuffle(v, lane + 1u),
    subgroupShuffle(v, lane + 2u), subgroupShuffle(v, lane + 3u));
}

fn spreadAll(r: vec4f) -> Four {
  return Four(spreadScalars(r, 0u), spreadScalars(r, 4u), spreadScalars(r, 8u), spreadScalars(r, 12u));
}

fn passingLogsumexp(at: u32, i: u32) -> vec4f {
  let last = T - 1u;
  var v = vec4f(logsumexpRead[at + min(i, last)]);
  if (LANES < 16u) { v.y = logsumexpRead[at + min(i + LANES, last)]; }
  if (LANES < 8u) {
    v.z = logsumexpRead[at + min(i + 2u * LANES, last)];
    v.w = logsumexpRead[at + min(i + 3u * LANES, last)];
  }
  return v;
}

fn passingDelta(at: u32, i: u32) -> vec4f {
  let last = T - 1u;
  var v = vec4f(deltaRead[at + min(i, last)]);
  if (LANES < 16u) { v.y = deltaRead[at + min(i + LANES, last)]; }
  if (LANES < 8u) {
    v.z = deltaRead[at + min(i + 2u * LANES, last)];
    v.w = deltaRead[at + min(i + 3u * LANES, last)];
  }
  return v;
}

fn runBackwardKey(group: vec3u, lane: u32) {
  let b = group.z;
  let h = group.y;
  let first = group.x * 2u * LANES;
  let j = first + lane;
  let start = h * (D / 4u);
  let end = start + D / 4u;
  let wide = HEADS * (D / 4u);
  let k0 = qkvRow(b, j) + wide;
  let k1 = qkvRow(b, j + LANES) + wide;
  let at = (b * HEADS + h) * T;
  let begin = first / PASSING * PASSING;
  let exists = vec2(j < T, j + LANES < T);
  if (KEPT) {
    for (var c = start; c < end; c++) {
      keepRows(keptAt(c - start, 0u, lane), Two(qkv[k0 + c], qkv[k1 + c]));
      keepRows(keptAt(c - start, 2u, lane), Two(qkv[k0 + wide + c], qkv[k1 + wide + c]));
    }
  }
  for (var query = begin; query < T; query += PASSING) {
    let i = query + lane;
    let q = qkvRows(b, i);
    let o = outRows(b, i);
    var s = Scores();
    var dp = Scores();
    for (var c = start; c < end; c++) {
      let own = ownRows(keptAt(c - start, 0u, lane), vec2u(k0, k1) + c);
      s = addScores(s, own.a, own.b, passingQkv(q, c));
    }
    for (var c = start; c < end; c++) {
      let own = ownRows(keptAt(c - start, 2u, lane), vec2u(k0, k1) + wide + c);
      dp = addScores(dp, own.a, own.b, passingGradient(o, c));
    }
    let lse = spreadAll(passingLogsumexp(at, i));
    s = scaled(s);
    // Masked after exp, so that an overflow beyond the diagonal does not count.
    s = maskEarlierQueries(Scores(
      probabilities4(s.a, lse.a), probabilities4(s.b, lse.b), probabilities4(s.c, lse.c), probabilities4(s.d, lse.d),
      probabilities4(s.e, lse.a), probabilities4(s.f, lse.b), probabilities4(s.g, lse.c), probabilities4(s.h, lse.d)),
      j, query);
    let del = spreadAll(passingDelta(at, i));
    var p = s;
    if (DROPOUT) {
      let f = keyFactors(dropoutKey.firstSlot + b, h * T + query, j);
      p = product(s, f);
      dp = product(dp, f);
    }
    p = operands(p);
    s = scoreGradients(product(s, Scores(
      keep4(dp.a - del.a), keep4(dp.b - del.b), keep4(dp.c - del.c), keep4(dp.d - del.d),
      keep4(dp.e - del.a), keep4(dp.f - del.b), keep4(dp.g - del.c), keep4(dp.h - del.d))));
    for (var c = start; c < end; c++) {
      let at = vec2u(k0, k1) + c;
      addQkvGradients(s, passingQkv(q, c), keptAt(c - start, 4u, lane), at, exists, query > begin);
      addQkvGradients(p, passingGradient(o, c), keptAt(c - start, 6u, lane), at + wide, exists, query > begin);
    }
  }
  if (KEPT || FINISHES) {
    for (var c = start; c < end; c++) {
      let rows = vec2u(k0, k1) + c;
      let dk = ownQkvGradients(keptAt(c - start, 4u, lane), rows);
      let dv = ownQkvGradients(keptAt(c - start, 6u, lane), rows + wide);
      storeQkvGradients(finished(dk, vec2f(SCALE)), rows, exists);
      storeQkvGradients(finished(dv, vec2f(1.0)), rows + wide, exists);
    }
  }
}

@compute @workgroup_size(LANES)
fn forward(
  @builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
  @builtin(subgroup_invocation_id) lane: u32) {
  runForward(group, groups.x, lane);
}

@compute @workgroup_size(LANES)
fn forwardDropout(
  @builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
  @builtin(subgroup_invocation_id) lane: u32) {
  dropoutKey = dropout;
  runForward(group, groups.x, lane);
}

@compute @workgroup_size(LANES)
fn backwardQuery(
  @builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
  @builtin(subgroup_invocation_id) lane: u32) {
  runBackwardQuery(group, groups.x, lane);
}

@compute @workgroup_size(LANES)
fn backwardQueryDropout(
  @builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
  @builtin(subgroup_invocation_id) lane: u32) {
  dropoutKey = dropout;
  runBackwardQuery(group, groups.x, lane);
}

@compute @workgroup_size(LANES)
fn backwardKey(@builtin(workgroup_id) group: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  runBackwardKey(group, lane);
}

@compute @workgroup_size(LANES)
fn backwardKeyDropout(@builtin(workgroup_id) group: vec3u, @builtin(subgroup_invocation_id) lane: u32) {
  dropoutKey = dropout;
  runBackwardKey(group, lane);
}
