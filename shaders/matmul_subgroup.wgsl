enable subgroups;
//! import matmul_operands
// C = A B in three layouts (matmul_operands.wgsl) with the epilogues of epilogue.wgsl, for software adapters. Their subgroups
// always have LANES lanes: 4 (SwiftShader), 8 (lavapipe) or 16.
//
// Workgroup = one subgroup = one tile of ROWS (8, 16 or 32) x 4 LANES of C. A lane owns 4 consecutive columns in every row,
// one vec4 accumulator a row. A step takes 4 values of k. With 8 lanes:
//
//            lane 0   lane 1  ...  lane 7
//   row 0    xyzw     xyzw         xyzw     B: each lane loads its own 4 columns of 4 rows (NN, TN), or 4 consecutive
//   row 1    xyzw     xyzw         xyzw        k of its 4 columns (NT)
//   ...                                     A: lane i loads 4 consecutive k of row 8v + i into vector v (NN, NT), or
//   row 31   xyzw     xyzw         xyzw        rows 4i to 4i + 3 of each k (TN); subgroupShuffle hands them to all
//
// Why: on a software adapter a load costs about as much as ten multiply-adds of the whole subgroup, whatever memory it
// reads, and barriers spill. So tiles in workgroup memory gain nothing. A shuffle from a constant lane is one instruction.
// 32 rows give 512 multiply-adds to 32 loaded components. 64 rows far apart, or 8 values of k a step, are slower
// (matmul_subgroup_tall.wgsl takes 64 rows side by side). The product is unrolled by hand and sizes are overrides, because
// the driver's compiler unrolls and hoists little that matters.
//
// Each accumulator adds its products one by one, k rising: the same order for every ROWS and LANES. Loads beyond the edge of
// C are moved inside, and their results are dropped. Terms beyond K are zero.

override LANES = 8u;
override ROWS = 32u;

// The accumulators, one a row (matmul_subgroup_tall.wgsl says why they are an array).
alias Tile = array<vec4f, 32>;

// Four rows of B, k to k + 3, in this lane's columns.
struct Panel {
  k0: vec4f,
  k1: vec4f,
  k2: vec4f,
  k3: vec4f,
}

// `acc`, this lane's part of a row of C, plus the products of 4 values of k. `p` holds the row's values of A.
fn add(acc: vec4f, p: vec4f, b: Panel) -> vec4f {
  let sum = plusProduct4(plusProduct4(acc, p.x, b.k0), p.y, b.k1);
  return plusProduct4(plusProduct4(sum, p.z, b.k2), p.w, b.k3);
}

// Four rows of C from A by rows: lanes `lane` to lane + 3 hold k to k + 3 of one row each.
fn addRows(t: ptr<function, Tile>, row: u32, v: vec4f, lane: u32, b: Panel) {
  (*t)[row] = add((*t)[row], subgroupShuffle(v, lane), b);
  (*t)[row + 1u] = add((*t)[row + 1u], subgroupShuffle(v, lane + 1u), b);
  (*t)[row + 2u] = add((*t)[row + 2u], subgroupShuffle(v, lane + 2u), b);
  (*t)[row + 3u] = add((*t)[row + 3u], subgroupShuffle(v, lane + 3u), b);
}

// Four rows of C from A by k: `lane` holds them all.
fn addColumns(t: ptr<function, Tile>, row: u32, v: Panel, lane: u32, b: Panel) {
  let p0 = subgroupShuffle(v.k0, lane);
  let p1 = subgroupShuffle(v.k1, lane);
  let p2 = subgroupShuffle(v.k2, lane);
  let p3 = subgroupShuffle(v.k3, lane);
  (*t)[row] = add((*t)[row], vec4f(p0.x, p1.x, p2.x, p3.x), b);
  (*t)[row + 1u] = add((*t)[row + 1u], vec4f(p0.y, p1.y, p2.y, p3.y), b);
  (*t)[row + 2u] = add((*t)[row + 2u], vec4f(p0.z, p1.z, p2.z, p3.z), b);
  (*t)[row + 3u] = add((*t)[row + 3u], vec4f(p0.w, p1.w, p2.w, p3.w), b);
}

// Where a lane reads; computed before the loop over k.
struct Place {
  row: vec4u,   // this lane's row of A (NN, NT) or first of 4 columns of A (TN), in the vectors for row groups 0 to 3
  more: vec4u,  // the same for row groups 4 to 7; a group is four rows of C
  col: vec4u,   // NN, TN: .x is its first of 4 columns of B. NT: its 4 rows of B
}

// In TN, `s` is the index of the product in its stack.
fn placeOf(row: u32, col: u32, lane: u32, s: u32) -> Place {
  let first = 4u * vec4u(0u, 1u, 2u, 3u);
  let second = first + 16u;
  var p: Place;
  if (LAYOUT == TN) {
    let wide = 4u * LANES;
    let last = vec4u((extent.rows - 1u) / 4u * 4u);
    p.row = s * K * LDA + min(row + 4u * lane + first / wide * wide, last);
    p.more = s * K * LDA + min(row + 4u * lane + second / wide * wide, last);
  } else {
    let last = vec4u(extent.rows - 1u);
    p.row = min(row + lane + first / LANES * LANES, last);
    p.more = min(row + lane + second / LANES * LANES, last);
  }
  if (LAYOUT == NT) {
    p.col = min(vec4u(col) + vec4u(0u, 1u, 2u, 3u), vec4u(N - 1u));
  } else {
    p.col = vec4u(min(col, (N - 1u) / 4u * 4u));
    if (LAYOUT == TN) { p.col += s * K * LDB; }
  }
  return p;
}

// insideK and belowK fold away where K is a multiple of 4.
fn insideK(k: u32) -> u32 {
  if (K % 4u == 0u) { return k; }
  return min(k, K - 1u);
}

fn belowK(v: vec4f, k: u32) -> vec4f {
  if (K % 4u == 0u) { return v; }
  return below(v, k, K);
}

fn panelOfB(p: Place, k: u32) -> Panel {
  if (LAYOUT == NT) {
    let t0 = belowK(loadB(p.col.x * LDB + k), k);
    let t1 = belowK(loadB(p.col.y * LDB + k), k);
    let t2 = belowK(loadB(p.col.z * LDB + k), k);
    let t3 = belowK(loadB(p.col.w * LDB + k), k);
    return Panel(
      vec4f(t0.x, t1.x, t2.x, t3.x),
      vec4f(t0.y, t1.y, t2.y, t3.y),
      vec4f(t0.z, t1.z, t2.z, t3.z),
      vec4f(t0.w, t1.w, t2.w, t3.w),
    );
  }
  return Panel(
    loadB(insideK(k) * LDB + p.col.x),
    loadB(insideK(k + 1u) * LDB + p.col.x),
    loadB(insideK(k + 2u) * LDB + p.col.x),
    loadB(insideK(k + 3u) * LDB + p.col.x),
  );
}

// k to k + 3 of this lane's four rows of A from `row` on; zero beyond K.
fn columnsOfA(row: u32, k: u32) -> Panel {
  return Panel(columnOfA(row, k), columnOfA(row, k + 1u), columnOfA(row, k + 2u), columnOfA(row, k + 3u));
}

fn columnOfA(row: u32, k: u32) -> vec4f {
  let v = loadA(insideK(k) * LDA + row);
  if (K % 4u == 0u) { return v; }
  return select(vec4f(), v, k < K);
}

// This lane's row of A, k to k + 3.
fn rowOfA(row: u32, k: u32) -> vec4f {
  return belowK(loadA(row * LDA + k), k);
}

// One step for all rows, NN and NT. The lanes' vectors hold LANES rows of A, so new ones are loaded every LANES rows.
fn stepRows(t: ptr<function, Tile>, p: Place, k: u32, b: Panel) {
  var v = rowOfA(p.row.x, k);
  addRows(t, 0u, v, 0u, b);
  if (LANES == 4u) { v = rowOfA(p.row.y, k); }
  addRows(t, 4u, v, 4u % LANES, b);
  if (ROWS > 8u) {
    if (LANES <= 8u) { v = rowOfA(p.row.z, k); }
    addRows(t, 8u, v, 8u % LANES, b);
    if (LANES == 4u) { v = rowOfA(p.row.w, k); }
    addRows(t, 12u, v, 12u % LANES, b);
  }
  if (ROWS > 16u) {
    v = rowOfA(p.more.x, k);
    addRows(t, 16u, v, 0u, b);
    if (LANES == 4u) { v = rowOfA(p.more.y, k); }
    addRows(t, 20u, v, 4u % LANES, b);
    if (LANES <= 8u) { v = rowOfA(p.more.z, k); }
    addRows(t, 24u, v, 8u % LANES, b);
    if (LANES == 4u) { v = rowOfA(p.more.w, k); }
    addRows(t, 28u, v, 12u % LANES, b);
  }
}

// One step for all rows, TN. The lanes' vectors hold 4 LANES rows of A.
fn stepColumns(t: ptr<function, Tile>, p: Place, k: u32, b: Panel) {
  var v = columnsOfA(p.row.x, k);
  addColumns(t, 0u, v, 0u, b);
  addColumns(t, 4u, v, 1u, b);
  if (ROWS > 8u) {
    addColumns(t, 8u, v, 2u, b);
    addColumns(t, 12u, v, 3u, b);
  }
  if (ROWS > 16u) {
    if (LANES == 4u) { v = columnsOfA(p.more.x, k); }
    addColumns(t, 16u, v, 4u % LANES, b);
    addColumns(t, 20u, v, 5u % LANES, b);
    addColumns(t, 24u, v, 6u % LANES, b);
    addColumns(t, 28u, v, 7u % LANES, b);
  }
}

// Adds the products of the tile at (row, col). In TN, `s` is the index of the product in its stack.
fn multiply(t: ptr<function, Tile>, row: u32, col: u32, lane: u32, s: u32) {
  let p = placeOf(row, col, lane, s);
  if (!SEGMENTED) {
    addTerms(t, p, 0u, K);
    return;
  }
  for (var first = 0u; first < rounds(K, extent.stack); first += SEGMENT) {
    var sum = Tile();
    addTerms(&sum, p, first, min(K, first + SEGMENT));
    for (var i = 0u; i < tileRows(); i++) { (*t)[i] = plusSegment4((*t)[i], sum[i]); }
  }
}

// Adds the terms from `first` (a multiple of 4) up to `end`.
fn addTerms(t: ptr<function, Tile>, p: Place, first: u32, end: u32) {
  for (var k = first; k < end; k += 4u) {
    let panel = panelOfB(p, k);
    if (LAYOUT == TN) {
      stepColumns(t, p, k, panel);
    } else {
      stepRows(t, p, k, panel);
    }
  }
}

// The trip count of loops over rows. With 32 rows the compiler may unroll them: an array that a loop indexes stays in memory,
// which costs a tenth of the product's time. With fewer rows loops are kept, because they compile in a fraction of the time.
fn tileRows() -> u32 {
  if (ROWS > 16u) { return ROWS; }
  return rounds(ROWS, extent.stack);
}

// The accumulators of the tile at (row, col); with ACCUMULATE they start from C.
fn product(row: u32, col: u32, lane: u32) -> Tile {
  var t: Tile;
  if (ACCUMULATE) {
    for (var i = 0u; i < tileRows(); i++) { t[i] = begin4(row + i, col); }
  }
  multiply(&t, row, col, lane, 0u);
  return t;
}

// The first row and column of the workgroup's tile. Where linearGroups makes more workgroups than tiles, those past the last
// tile land outside C and store nothing. A branch around them would cost every workgroup a mask in its loops.
fn cornerOf(group: vec3u, groups: vec3u) -> vec2u {
  let id = group.x + group.y * groups.x;
  return tileOf(id, (extent.rows + ROWS - 1u) / ROWS, (N + 4u * LANES - 1u) / (4u * LANES)) * vec2u(ROWS, 4u * LANES);
}

//! each STORE: store storeGelu storeDropout
@compute @workgroup_size(LANES)
fn STORE(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let corner = cornerOf(group, groups);
  let row = corner.x;
  let col = corner.y + lane * 4u;
  let t = product(row, col, lane);
  for (var i = 0u; i < tileRows(); i++) { STORE4(row + i, col, t[i]); }
}
//! end

@compute @workgroup_size(LANES)
fn fixed(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let corner = cornerOf(group, groups);
  let row = corner.x;
  let col = corner.y + lane * 4u;
  var statusBits = 0u;
  for (var s = 0u; s < extent.stack; s++) {
    var t = Tile();
    multiply(&t, row, col, lane, s);
    for (var i = 0u; i < rounds(ROWS, extent.stack); i++) { statusBits |= fixed4(row + i, col, t[i], s); }
  }
  reportStatus(statusBits);
}
