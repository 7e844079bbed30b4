enable subgroups;
//! import matmul_operands
// C = A B (matmul_operands.wgsl) with the epilogues of epilogue.wgsl: like matmul_subgroup.wgsl, with tiles twice as tall,
// for products that are large enough.
//
// Workgroup = one subgroup of LANES (4, 8 or 16) lanes = a tile of 64 lines x 4 LANES places. A lane owns 4 consecutive
// places of every line, one vec4 accumulator a line. A step takes 2 values of k:
//
//   TN: line = row of C, place = column of C; A^T [K, M] by lines, B [K, N] by places
//   NN: line = column of C, place = row of C; B [K, N] by lines, A [M, K] by places: the tile is C's, transposed
//   NT: line = row of C, place = column of C; A comes transposed (arrange.wgsl), [K, M] by lines, B [N, K] by places
//
// Lane i loads lines 4i to 4i + 3 of each k, and subgroupShuffle hands them to all lanes.
//
// Why: the driver loads every component lane by lane, with a bounds check, some dozen instructions each. So a tile should be
// large. But the loop must stay within the processor's instruction caches, hence 2 values of k. The 64 lines lie side by side
// in memory: 64 rows thousands of bytes apart would share few sets of the L1 cache and evict each other. So NN is transposed,
// and NT wants a transposed copy of A. In TN places lie side by side as well, and are loaded four at a time, in two thirds of
// the instructions. So NN and NT become TN where the copies cost less than that gains (matmul-kernels.ts).
//
// Each accumulator adds its products one by one, k rising. Loads beyond the edge of C are moved inside, and their results are
// dropped. Terms beyond K are zero.

override LANES = 8u;

// The accumulators, one a line. They are an array, which a software driver keeps in memory. It compiles an array in a
// fraction of the time that 64 named values take, and those would be in memory most of the time as well. A loop can index an
// array, so the code of an epilogue is there once.
alias Tile = array<vec4f, 64>;

// Two values of k of four consecutive lines or places.
struct Pair {
  k0: vec4f,
  k1: vec4f,
}

fn add(acc: vec4f, x: f32, y: f32, b: Pair) -> vec4f {
  return plusProduct4(plusProduct4(acc, x, b.k0), y, b.k1);
}

// Adds to four lines from `line` on; `lane` holds their values.
fn addLines(t: ptr<function, Tile>, line: u32, v: Pair, lane: u32, b: Pair) {
  let p = subgroupShuffle(v.k0, lane);
  let q = subgroupShuffle(v.k1, lane);
  (*t)[line] = add((*t)[line], p.x, q.x, b);
  (*t)[line + 1u] = add((*t)[line + 1u], p.y, q.y, b);
  (*t)[line + 2u] = add((*t)[line + 2u], p.z, q.z, b);
  (*t)[line + 3u] = add((*t)[line + 3u], p.w, q.w, b);
}

// Folds away where K is even.
fn insideK(k: u32) -> u32 {
  if (K % 2u == 0u) { return k; }
  return min(k, K - 1u);
}

// Four lines from `line` on at one k. Beyond K they may be anything, because there the places are zero.
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
    v.k0 = operandA4(vec4f(vec4(a[at.x + k], a[at.y + k], a[at.z + k], a[at.w + k])));
    v.k1 = operandA4(vec4f(vec4(a[at.x + next], a[at.y + next], a[at.z + next], a[at.w + next])));
  } else {
    v.k0 = operandB4(vec4f(vec4(b[at.x + k], b[at.y + k], b[at.z + k], b[at.w + k])));
    v.k1 = operandB4(vec4f(vec4(b[at.x + next], b[at.y + next], b[at.z + next], b[at.w + next])));
  }
  if (K % 2u == 1u) { v.k1 = select(v.k1, vec4f(), k + 1u >= K); }
  return v;
}

// The first row and column of the workgroup's tile. Past the last tile they lie outside C, and nothing is stored.
fn cornerOf(group: vec3u, groups: vec3u) -> vec2u {
  let id = group.x + group.y * groups.x;
  var size = vec2u(64u, 4u * LANES);
  if (LAYOUT == NN) { size = size.yx; }
  return tileOf(id, (extent.rows + size.x - 1u) / size.x, (N + size.y - 1u) / size.y) * size;
}

// With ACCUMULATE, starts the accumulators from C.
fn begin(t: ptr<function, Tile>, corner: vec2u, lane: u32) {
  if (!ACCUMULATE) { return; }
  for (var i = 0u; i < rounds(64u, extent.stack); i++) {
    if (LAYOUT != NN) {
      (*t)[i] = begin4(corner.x + i, corner.y + 4u * lane);
    } else {
      let place = i / 16u;
      let line = i % 16u * 4u;
      let v = begin4(corner.x + 4u * lane + place, corner.y + line);
      (*t)[line][place] = v.x;
      (*t)[line + 1u][place] = v.y;
      (*t)[line + 2u][place] = v.z;
      (*t)[line + 3u][place] = v.w;
    }
  }
}

// Adds the products of the tile at `corner`. In TN, `s` is the index of the product in its stack.
fn multiply(t: ptr<function, Tile>, corner: vec2u, lane: u32, s: u32) {
  var line = corner.x;
  var place = corner.y + 4u * lane;
  var lines = extent.rows;
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
    at = min(place + vec4u(0u, 1u, 2u, 3u), vec4u(extent.rows - 1u)) * LDA;
  }
  let last = (lines - 1u) / 4u * 4u;
  let line0 = firstLine + min(line + 4u * lane, last);
  let line1 = firstLine + min(line + 4u * (LANES + lane), last);
  let line2 = firstLine + min(line + 4u * (2u * LANES + lane), last);
  let line3 = firstLine + min(line + 4u * (3u * LANES + lane), last);
  let p = Place(at, line0, line1, line2, line3);
  if (!SEGMENTED) {
    addTerms(t, p, 0u, K);
    return;
  }
  for (var first = 0u; first < rounds(K, extent.stack); first += SEGMENT) {
    var sum = Tile();
    addTerms(&sum, p, first, min(K, first + SEGMENT));
    for (var i = 0u; i < rounds(64u, extent.stack); i++) { (*t)[i] = plusSegment4((*t)[i], sum[i]); }
  }
}

// Where a lane reads: its places, and the first of four lines in each of the vectors that hold 4 LANES lines.
struct Place {
  at: vec4u,
  line0: u32,
  line1: u32,
  line2: u32,
  line3: u32,
}

// Adds the terms from `first` (a multiple of 2) up to `end`.
fn addTerms(t: ptr<function, Tile>, p: Place, first: u32, end: u32) {
  for (var k = first; k < end; k += 2u) {
    let b = placesOf(p.at, k);
    var v = linesOf(p.line0, k);
    addLines(t, 0u, v, 0u % LANES, b);
    addLines(t, 4u, v, 1u % LANES, b);
    addLines(t, 8u, v, 2u % LANES, b);
    addLines(t, 12u, v, 3u % LANES, b);
    if (LANES == 4u) { v = linesOf(p.line1, k); }
    addLines(t, 16u, v, 4u % LANES, b);
    addLines(t, 20u, v, 5u % LANES, b);
    addLines(t, 24u, v, 6u % LANES, b);
    addLines(t, 28u, v, 7u % LANES, b);
    if (LANES == 4u) { v = linesOf(p.line2, k); }
    if (LANES == 8u) { v = linesOf(p.line1, k); }
    addLines(t, 32u, v, 8u % LANES, b);
    addLines(t, 36u, v, 9u % LANES, b);
    addLines(t, 40u, v, 10u % LANES, b);
    addLines(t, 44u, v, 11u % LANES, b);
    if (LANES == 4u) { v = linesOf(p.line3, k); }
    addLines(t, 48u, v, 12u % LANES, b);
    addLines(t, 52u, v, 13u % LANES, b);
    addLines(t, 56u, v, 14u % LANES, b);
    addLines(t, 60u, v, 15u % LANES, b);
  }
}

// Four values of a row of C; a lane holds 64 of these.
struct OutputVec4 {
  row: u32,
  col: u32,
  v: vec4f,
}

fn outputVec4(t: ptr<function, Tile>, i: u32, corner: vec2u, lane: u32) -> OutputVec4 {
  if (LAYOUT != NN) { return OutputVec4(corner.x + i, corner.y + 4u * lane, (*t)[i]); }
  let place = i / 16u;
  let line = i % 16u * 4u;
  let v = vec4f((*t)[line][place], (*t)[line + 1u][place], (*t)[line + 2u][place], (*t)[line + 3u][place]);
  return OutputVec4(corner.x + 4u * lane + place, corner.y + line, v);
}

//! each STORE: store storeGelu storeDropout
@compute @workgroup_size(LANES)
fn STORE(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let corner = cornerOf(group, groups);
  var t: Tile;
  begin(&t, corner, lane);
  multiply(&t, corner, lane, 0u);
  for (var i = 0u; i < rounds(64u, extent.stack); i++) {
    let q = outputVec4(&t, i, corner, lane);
    STORE4(q.row, q.col, q.v);
  }
}
//! end

// Reads a word of every cache line (16 values) of the tile's sums, each lane another, so that they come from memory together.
// Fetched one after the other by the epilogue, they would cost a fifth of the product's time. Sums that are overwritten are
// not read. Returns 0, which the compiler does not know.
fn fetchSums(corner: vec2u, lane: u32) -> u32 {
  if (extent.accumulate == 0u) { return 0u; }
  let across = max(4u * LANES / 16u, 1u);
  var words = 0u;
  for (var i = lane; i < 64u * across; i += LANES) {
    let at = min(corner.x + i / across, extent.rows - 1u) * LDC + min(corner.y + i % across * 16u, N - 1u);
    words |= wordOfSums(at);
  }
  return select(0u, words, extent.stack == 0u);
}

@compute @workgroup_size(LANES)
fn fixed(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let corner = cornerOf(group, groups);
  var statusBits = 0u;
  // Two products of a stack are added before they go to the sums, so that the sums are read and written half as often.
  var first: array<Integers, 64>;
  for (var s = 0u; s < extent.stack; s++) {
    var t = Tile();
    multiply(&t, corner, lane, s);
    if (s == 0u) { statusBits = fetchSums(corner, lane); }
    let isFirst = s % 2u == 0u && s + 1u < extent.stack;
    for (var i = 0u; i < rounds(64u, extent.stack); i++) {
      let q = outputVec4(&t, i, corner, lane);
      if (outside(q.row, q.col)) { continue; }
      var v = integersOf(q.row, q.col, q.v, s);
      if (isFirst) {
        first[i] = v;
        continue;
      }
      if (s % 2u == 1u) { v = sumOf(first[i], v); }
      statusBits |= v.statusBits;
      intoSums(q.row, q.col, v, s < 2u);
    }
  }
  reportStatus(statusBits);
}
