enable subgroups;
//! import matmul_operands
// C = A B (matmul_operands.wgsl) with the epilogues of epilogue.wgsl: matmul_subgroup.wgsl's plan with tiles twice as
// tall, for products that are large enough.
//
// Workgroup = one subgroup of LANES (4, 8 or 16) lanes = a tile of 64 lines x 4 LANES places; a lane owns 4 consecutive
// places of every line, one named vec4 accumulator a line. A step takes 2 values of k:
//
//   TN: line = row of C, place = column of C; A^T [K, M] by lines, B [K, N] by places
//   NN: line = column of C, place = row of C; B [K, N] by lines, A [M, K] by places: the tile is C's, transposed
//   NT: line = row of C, place = column of C; A comes transposed (arrange.wgsl), [K, M] by lines, B [N, K] by places
//
// Lane i loads lines 4i to 4i + 3 of each k, and subgroupShuffle hands them to all lanes.
//
// Why: every lane of every component is loaded by itself, with a check of its own, some dozen instructions, so a tile
// should be large; but the loop must stay within the processor's instruction caches, hence 2 values of k. The 64 lines
// are side by side in memory, which is why NN is transposed and NT wants a transposed copy of A: 64 rows thousands of bytes
// apart would share few sets of the first cache and drive each other out. Places that lie side by side as well, TN's, are
// loaded four at a time, two thirds of the instructions: NN and NT become TN where the copies cost less (matmul-plan.ts).
//
// Each accumulator adds its products one by one, k rising. Loads beyond the edge of C are moved inside (their results
// are dropped), terms beyond K are zero.

override LANES = 8u;

struct Lines4 {
  r0: vec4f,
  r1: vec4f,
  r2: vec4f,
  r3: vec4f,
}

struct Tile {
  g0: Lines4,
  g1: Lines4,
  g2: Lines4,
  g3: Lines4,
  g4: Lines4,
  g5: Lines4,
  g6: Lines4,
  g7: Lines4,
  g8: Lines4,
  g9: Lines4,
  g10: Lines4,
  g11: Lines4,
  g12: Lines4,
  g13: Lines4,
  g14: Lines4,
  g15: Lines4,
}

// Two values of k of four consecutive lines or places.
struct Pair {
  k0: vec4f,
  k1: vec4f,
}

fn add(acc: vec4f, x: f32, y: f32, b: Pair) -> vec4f {
  return (acc + x * b.k0) + y * b.k1;
}

// Four lines, whose values `lane` holds.
fn addLines(t: Lines4, v: Pair, lane: u32, b: Pair) -> Lines4 {
  let p = subgroupShuffle(v.k0, lane);
  let q = subgroupShuffle(v.k1, lane);
  return Lines4(
    add(t.r0, p.x, q.x, b),
    add(t.r1, p.y, q.y, b),
    add(t.r2, p.z, q.z, b),
    add(t.r3, p.w, q.w, b),
  );
}

// Folds away where K is even.
fn insideK(k: u32) -> u32 {
  if (K % 2u == 0u) { return k; }
  return min(k, K - 1u);
}

// Four lines from `line` on at one k. Beyond K it is the places that are zero.
fn linesAt(line: u32, k: u32) -> vec4f {
  if (LAYOUT == NN) { return loadB(insideK(k) * LDB + line); }
  return loadA(insideK(k) * LDA + line);
}

fn linesOf(line: u32, k: u32) -> Pair {
  return Pair(linesAt(line, k), linesAt(line, k + 1u));
}

// This lane's places: `at` is the first column of B (TN), or where its four rows of A (NN) or B (NT) begin.
fn placesOf(at: vec4u, k: u32) -> Pair {
  var v: Pair;
  let next = insideK(k + 1u);
  if (LAYOUT == TN) {
    v = Pair(loadB(k * LDB + at.x), loadB(next * LDB + at.x));
  } else if (LAYOUT == NN) {
    v.k0 = vec4f(vec4(a[at.x + k], a[at.y + k], a[at.z + k], a[at.w + k]));
    v.k1 = vec4f(vec4(a[at.x + next], a[at.y + next], a[at.z + next], a[at.w + next]));
  } else {
    v.k0 = vec4f(vec4(b[at.x + k], b[at.y + k], b[at.z + k], b[at.w + k]));
    v.k1 = vec4f(vec4(b[at.x + next], b[at.y + next], b[at.z + next], b[at.w + next]));
  }
  if (K % 2u == 1u) { v.k1 = select(v.k1, vec4f(), k + 1u >= K); }
  return v;
}

// Accumulators on their way out, [line][lane]: a loop can index this, so that the code of an epilogue is there once. A
// lane meets only its own values: no barrier. A stack goes to the sums two products at a time, which lie one behind the
// other, so that the sums are met half as often.
override STAGED = select(1u, 2u, STACK > 1u);
var<workgroup> staging: array<vec4f, 64u * LANES * STAGED>;

fn stage(line: u32, lane: u32, t: Lines4) {
  staging[(line + 0u) * LANES + lane] = t.r0;
  staging[(line + 1u) * LANES + lane] = t.r1;
  staging[(line + 2u) * LANES + lane] = t.r2;
  staging[(line + 3u) * LANES + lane] = t.r3;
}

fn staged(line: u32, lane: u32) -> Lines4 {
  return Lines4(
    staging[(line + 0u) * LANES + lane],
    staging[(line + 1u) * LANES + lane],
    staging[(line + 2u) * LANES + lane],
    staging[(line + 3u) * LANES + lane],
  );
}

// The first row and column of the workgroup's tile; past the last tile they lie outside C, and nothing is stored.
fn cornerOf(group: vec3u, groups: vec3u) -> vec2u {
  let id = group.x + group.y * groups.x;
  var size = vec2u(64u, 4u * LANES);
  if (LAYOUT == NN) { size = size.yx; }
  return tileOf(id, (M + size.x - 1u) / size.x, (N + size.y - 1u) / size.y) * size;
}

// Where the accumulators start. C comes in through `staging`, so that its loads are there once: written out for every
// line, they take the driver minutes to compile.
fn beginTile(corner: vec2u, lane: u32) -> Tile {
  var t: Tile;
  if (!ACCUMULATE) { return t; }
  for (var i = 0u; i < 64u; i++) {
    if (LAYOUT != NN) {
      staging[i * LANES + lane] = begin4(corner.x + i, corner.y + 4u * lane);
    } else {
      let place = i / 16u;
      let line = i % 16u * 4u;
      let v = begin4(corner.x + 4u * lane + place, corner.y + line);
      staging[line * LANES + lane][place] = v.x;
      staging[(line + 1u) * LANES + lane][place] = v.y;
      staging[(line + 2u) * LANES + lane][place] = v.z;
      staging[(line + 3u) * LANES + lane][place] = v.w;
    }
  }
  t.g0 = staged(0u, lane);
  t.g1 = staged(4u, lane);
  t.g2 = staged(8u, lane);
  t.g3 = staged(12u, lane);
  t.g4 = staged(16u, lane);
  t.g5 = staged(20u, lane);
  t.g6 = staged(24u, lane);
  t.g7 = staged(28u, lane);
  t.g8 = staged(32u, lane);
  t.g9 = staged(36u, lane);
  t.g10 = staged(40u, lane);
  t.g11 = staged(44u, lane);
  t.g12 = staged(48u, lane);
  t.g13 = staged(52u, lane);
  t.g14 = staged(56u, lane);
  t.g15 = staged(60u, lane);
  return t;
}

// Leaves the tile at `corner` in `staging`, on top of `begin`; TN: of product `s` of the stack, an odd one behind an even.
fn multiply(begin: Tile, corner: vec2u, lane: u32, s: u32) {
  var line = corner.x;
  var place = corner.y + 4u * lane;
  var lines = M;
  var at: vec4u;
  var firstLine = 0u;
  if (LAYOUT == TN) {
    at = vec4u(s * K * LDB + min(place, (N - 1u) / 4u * 4u));
    firstLine = s * K * LDA;
  } else if (LAYOUT == NT) {
    at = min(place + vec4u(0u, 1u, 2u, 3u), vec4u(N - 1u)) * LDB;
  } else {
    line = corner.y;
    place = corner.x + 4u * lane;
    lines = N;
    at = min(place + vec4u(0u, 1u, 2u, 3u), vec4u(M - 1u)) * LDA;
  }
  let last = (lines - 1u) / 4u * 4u;
  // A vector holds 4 LANES lines.
  let line0 = firstLine + min(line + 4u * lane, last);
  let line1 = firstLine + min(line + 4u * (LANES + lane), last);
  let line2 = firstLine + min(line + 4u * (2u * LANES + lane), last);
  let line3 = firstLine + min(line + 4u * (3u * LANES + lane), last);
  var t = begin;
  for (var k = 0u; k < K; k += 2u) {
    let b = placesOf(at, k);
    var v = linesOf(line0, k);
    t.g0 = addLines(t.g0, v, 0u % LANES, b);
    t.g1 = addLines(t.g1, v, 1u % LANES, b);
    t.g2 = addLines(t.g2, v, 2u % LANES, b);
    t.g3 = addLines(t.g3, v, 3u % LANES, b);
    if (LANES == 4u) { v = linesOf(line1, k); }
    t.g4 = addLines(t.g4, v, 4u % LANES, b);
    t.g5 = addLines(t.g5, v, 5u % LANES, b);
    t.g6 = addLines(t.g6, v, 6u % LANES, b);
    t.g7 = addLines(t.g7, v, 7u % LANES, b);
    if (LANES == 4u) { v = linesOf(line2, k); }
    if (LANES == 8u) { v = linesOf(line1, k); }
    t.g8 = addLines(t.g8, v, 8u % LANES, b);
    t.g9 = addLines(t.g9, v, 9u % LANES, b);
    t.g10 = addLines(t.g10, v, 10u % LANES, b);
    t.g11 = addLines(t.g11, v, 11u % LANES, b);
    if (LANES == 4u) { v = linesOf(line3, k); }
    t.g12 = addLines(t.g12, v, 12u % LANES, b);
    t.g13 = addLines(t.g13, v, 13u % LANES, b);
    t.g14 = addLines(t.g14, v, 14u % LANES, b);
    t.g15 = addLines(t.g15, v, 15u % LANES, b);
  }
  let out = 64u * (s % STAGED);
  stage(out, lane, t.g0);
  stage(out + 4u, lane, t.g1);
  stage(out + 8u, lane, t.g2);
  stage(out + 12u, lane, t.g3);
  stage(out + 16u, lane, t.g4);
  stage(out + 20u, lane, t.g5);
  stage(out + 24u, lane, t.g6);
  stage(out + 28u, lane, t.g7);
  stage(out + 32u, lane, t.g8);
  stage(out + 36u, lane, t.g9);
  stage(out + 40u, lane, t.g10);
  stage(out + 44u, lane, t.g11);
  stage(out + 48u, lane, t.g12);
  stage(out + 52u, lane, t.g13);
  stage(out + 56u, lane, t.g14);
  stage(out + 60u, lane, t.g15);
}

// Four values of a row of C that this lane holds; there are 64 such in the tile.
struct Quad {
  row: u32,
  col: u32,
  v: vec4f,
}

fn quadOf(i: u32, corner: vec2u, lane: u32) -> Quad {
  if (LAYOUT != NN) { return Quad(corner.x + i, corner.y + 4u * lane, staging[i * LANES + lane]); }
  let place = i / 16u;
  let line = i % 16u * 4u;
  let v = vec4f(
    staging[line * LANES + lane][place],
    staging[(line + 1u) * LANES + lane][place],
    staging[(line + 2u) * LANES + lane][place],
    staging[(line + 3u) * LANES + lane][place],
  );
  return Quad(corner.x + 4u * lane + place, corner.y + line, v);
}

@compute @workgroup_size(LANES)
fn store(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let corner = cornerOf(group, groups);
  multiply(beginTile(corner, lane), corner, lane, 0u);
  for (var i = 0u; i < 64u; i++) {
    let q = quadOf(i, corner, lane);
    store4(q.row, q.col, q.v);
  }
}

@compute @workgroup_size(LANES)
fn storeGelu(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let corner = cornerOf(group, groups);
  multiply(beginTile(corner, lane), corner, lane, 0u);
  for (var i = 0u; i < 64u; i++) {
    let q = quadOf(i, corner, lane);
    storeGelu4(q.row, q.col, q.v);
  }
}

@compute @workgroup_size(LANES)
fn storeDropout(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let corner = cornerOf(group, groups);
  multiply(beginTile(corner, lane), corner, lane, 0u);
  for (var i = 0u; i < 64u; i++) {
    let q = quadOf(i, corner, lane);
    storeDropout4(q.row, q.col, q.v);
  }
}

// Reads a word of every line of the cache (16 values) that the tile's sums lie in, each lane another: so they come from
// memory together. One after the other, as grid4 reads them, they cost a fifth of the product's time. Sums that begin
// anew are not read. Returns 0, which the compiler does not know.
fn fetchSums(corner: vec2u, lane: u32, groups: vec3u) -> u32 {
  if (FRESH) { return 0u; }
  let across = max(4u * LANES / 16u, 1u);
  var words = 0u;
  for (var i = lane; i < 64u * across; i += LANES) {
    let at = min(corner.x + i / across, M - 1u) * LDC + min(corner.y + i % across * 16u, N - 1u);
    words |= wordOfSums(at);
  }
  return select(0u, words, groups.z == 0u);
}

@compute @workgroup_size(LANES)
fn grid(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let corner = cornerOf(group, groups);
  var wrong = 0u;
  for (var s = 0u; s < STACK; s += STAGED) {
    for (var i = s; i < min(s + STAGED, STACK); i++) { multiply(Tile(), corner, lane, i); }
    if (s == 0u) { wrong = fetchSums(corner, lane, groups); }
    for (var i = 0u; i < 64u; i++) {
      let q = quadOf(i, corner, lane);
      if (STAGED == 1u) {
        wrong |= grid4(q.row, q.col, q.v, s);
      } else {
        let next = select(vec4f(), staging[(64u + i) * LANES + lane], s + 1u < STACK);
        wrong |= gridPair4(q.row, q.col, q.v, next, s);
      }
    }
  }
  reportWrong(wrong);
}
