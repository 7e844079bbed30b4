enable subgroups;
//! import matmul_operands
// C = A B in three layouts (matmul_operands.wgsl) with the epilogues of epilogue.wgsl, for software adapters whose
// subgroups have 8 lanes (lavapipe).
//
// Workgroup = one subgroup of 8 lanes = one tile of ROWS (8, 16 or 32) x 32 of C; a lane owns 4 consecutive columns in
// every row, one named vec4 accumulator a row. A step takes 4 values of k:
//
//            lane 0   lane 1  ...  lane 7
//   row 0    xyzw     xyzw         xyzw     B: each lane loads its own 4 columns of 4 rows (NN, TN), or 4 consecutive
//   row 1    xyzw     xyzw         xyzw        k of its 4 columns (NT)
//   ...                                     A: lane i loads 4 consecutive k of row 8g + i (NN, NT), or rows 4i to
//   row 31   xyzw     xyzw         xyzw        4i + 3 of each k (TN); subgroupShuffle hands them to all lanes
//
// Why: there, a load costs about as much as ten multiply-adds of the whole subgroup, whatever memory it reads, and
// barriers spill, so tiling in workgroup memory gains nothing; a shuffle from a constant lane is one instruction. 32
// rows give 512 multiply-adds to 32 loaded components; 64 rows, or 8 values of k a step, are slower again (too much
// code). The product is unrolled by hand, and sizes are overrides, because the driver's compiler unrolls and hoists
// little.
//
// Each accumulator adds, k rising in steps of 4, the sum of four products: a fixed order, the same for every ROWS.
// Loads beyond the edge of C are moved inside (their results are dropped), terms beyond K are zero.

override ROWS = 32u;

struct Rows8 {
  r0: vec4f,
  r1: vec4f,
  r2: vec4f,
  r3: vec4f,
  r4: vec4f,
  r5: vec4f,
  r6: vec4f,
  r7: vec4f,
}

struct Tile {
  g0: Rows8,
  g1: Rows8,
  g2: Rows8,
  g3: Rows8,
}

// Four rows of B, k to k + 3, in this lane's columns.
struct Panel {
  k0: vec4f,
  k1: vec4f,
  k2: vec4f,
  k3: vec4f,
}

// One row of C; p holds its 4 values of A.
fn add(acc: vec4f, p: vec4f, b: Panel) -> vec4f {
  return acc + (p.x * b.k0 + p.y * b.k1 + p.z * b.k2 + p.w * b.k3);
}

// Eight rows of C from A by rows: lane i holds k to k + 3 of row i.
fn addRows(t: Rows8, v: vec4f, b: Panel) -> Rows8 {
  return Rows8(
    add(t.r0, subgroupShuffle(v, 0u), b),
    add(t.r1, subgroupShuffle(v, 1u), b),
    add(t.r2, subgroupShuffle(v, 2u), b),
    add(t.r3, subgroupShuffle(v, 3u), b),
    add(t.r4, subgroupShuffle(v, 4u), b),
    add(t.r5, subgroupShuffle(v, 5u), b),
    add(t.r6, subgroupShuffle(v, 6u), b),
    add(t.r7, subgroupShuffle(v, 7u), b),
  );
}

// Eight rows of C from A by k: lane i holds rows 4i to 4i + 3; these eight are in `lane` and the next one.
fn addColumns(t: Rows8, v: Panel, lane: u32, b: Panel) -> Rows8 {
  let p0 = subgroupShuffle(v.k0, lane);
  let p1 = subgroupShuffle(v.k1, lane);
  let p2 = subgroupShuffle(v.k2, lane);
  let p3 = subgroupShuffle(v.k3, lane);
  let q0 = subgroupShuffle(v.k0, lane + 1u);
  let q1 = subgroupShuffle(v.k1, lane + 1u);
  let q2 = subgroupShuffle(v.k2, lane + 1u);
  let q3 = subgroupShuffle(v.k3, lane + 1u);
  return Rows8(
    add(t.r0, vec4f(p0.x, p1.x, p2.x, p3.x), b),
    add(t.r1, vec4f(p0.y, p1.y, p2.y, p3.y), b),
    add(t.r2, vec4f(p0.z, p1.z, p2.z, p3.z), b),
    add(t.r3, vec4f(p0.w, p1.w, p2.w, p3.w), b),
    add(t.r4, vec4f(q0.x, q1.x, q2.x, q3.x), b),
    add(t.r5, vec4f(q0.y, q1.y, q2.y, q3.y), b),
    add(t.r6, vec4f(q0.z, q1.z, q2.z, q3.z), b),
    add(t.r7, vec4f(q0.w, q1.w, q2.w, q3.w), b),
  );
}

// Where a lane reads, hoisted out of the loop.
struct Place {
  row: vec4u,  // NN, NT: this lane's rows of A, one for each group of eight. TN: .x is its first of 4 columns of A
  col: vec4u,  // NN, TN: .x is its first of 4 columns of B. NT: its 4 rows of B
}

fn placeOf(row: u32, col: u32, lane: u32) -> Place {
  var p: Place;
  if (LAYOUT == TN) {
    p.row = vec4u(min(row + 4u * lane, (M - 1u) / 4u * 4u));
  } else {
    p.row = min(vec4u(row + lane) + vec4u(0u, 8u, 16u, 24u), vec4u(M - 1u));
  }
  if (LAYOUT == NT) {
    p.col = min(vec4u(col) + vec4u(0u, 1u, 2u, 3u), vec4u(N - 1u));
  } else {
    p.col = vec4u(min(col, (N - 1u) / 4u * 4u));
  }
  return p;
}

// Both fold away where K is a multiple of 4.
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

// One k of A, this lane's four rows; zero beyond K.
fn columnOfA(p: Place, k: u32) -> vec4f {
  let v = loadA(insideK(k) * LDA + p.row.x);
  if (K % 4u == 0u) { return v; }
  return select(vec4f(), v, k < K);
}

// Accumulators on their way out, [row of the tile][lane]. A loop can index this, so that the code of an epilogue
// is there once and not 32 times, which takes the driver minutes to compile. A lane meets only its own values: no
// barrier.
var<workgroup> staging: array<vec4f, 256>;

fn stage(row: u32, lane: u32, t: Rows8) {
  staging[(row + 0u) * 8u + lane] = t.r0;
  staging[(row + 1u) * 8u + lane] = t.r1;
  staging[(row + 2u) * 8u + lane] = t.r2;
  staging[(row + 3u) * 8u + lane] = t.r3;
  staging[(row + 4u) * 8u + lane] = t.r4;
  staging[(row + 5u) * 8u + lane] = t.r5;
  staging[(row + 6u) * 8u + lane] = t.r6;
  staging[(row + 7u) * 8u + lane] = t.r7;
}

// Where eight rows start, with ACCUMULATE. A loop as well: a load is much code for this driver.
fn beginRows(row: u32, col: u32) -> Rows8 {
  var t: Rows8;
  for (var i = 0u; i < 8u; i++) {
    let v = begin4(row + i, col);
    t.r0 = select(t.r0, v, i == 0u);
    t.r1 = select(t.r1, v, i == 1u);
    t.r2 = select(t.r2, v, i == 2u);
    t.r3 = select(t.r3, v, i == 3u);
    t.r4 = select(t.r4, v, i == 4u);
    t.r5 = select(t.r5, v, i == 5u);
    t.r6 = select(t.r6, v, i == 6u);
    t.r7 = select(t.r7, v, i == 7u);
  }
  return t;
}

fn beginTile(row: u32, col: u32) -> Tile {
  var t: Tile;
  if (ACCUMULATE) {
    t.g0 = beginRows(row, col);
    if (ROWS > 8u) { t.g1 = beginRows(row + 8u, col); }
    if (ROWS > 16u) {
      t.g2 = beginRows(row + 16u, col);
      t.g3 = beginRows(row + 24u, col);
    }
  }
  return t;
}

// Leaves `begin` + A B at (row, col) in `staging`.
fn multiply(begin: Tile, row: u32, col: u32, lane: u32) {
  let p = placeOf(row, col, lane);
  var t = begin;
  for (var k = 0u; k < K; k += 4u) {
    let panel = panelOfB(p, k);
    if (LAYOUT == TN) {
      let v = Panel(columnOfA(p, k), columnOfA(p, k + 1u), columnOfA(p, k + 2u), columnOfA(p, k + 3u));
      t.g0 = addColumns(t.g0, v, 0u, panel);
      if (ROWS > 8u) { t.g1 = addColumns(t.g1, v, 2u, panel); }
      if (ROWS > 16u) {
        t.g2 = addColumns(t.g2, v, 4u, panel);
        t.g3 = addColumns(t.g3, v, 6u, panel);
      }
    } else {
      t.g0 = addRows(t.g0, belowK(loadA(p.row.x * LDA + k), k), panel);
      if (ROWS > 8u) { t.g1 = addRows(t.g1, belowK(loadA(p.row.y * LDA + k), k), panel); }
      if (ROWS > 16u) {
        t.g2 = addRows(t.g2, belowK(loadA(p.row.z * LDA + k), k), panel);
        t.g3 = addRows(t.g3, belowK(loadA(p.row.w * LDA + k), k), panel);
      }
    }
  }
  stage(0u, lane, t.g0);
  if (ROWS > 8u) { stage(8u, lane, t.g1); }
  if (ROWS > 16u) {
    stage(16u, lane, t.g2);
    stage(24u, lane, t.g3);
  }
}

// The first row and column of the workgroup's tile. Where the line of tiles is folded (linearGroups), workgroups past
// the last tile land outside C and store nothing; a branch round them costs every other workgroup a mask in its loops.
fn cornerOf(group: vec3u, groups: vec3u) -> vec2u {
  let id = group.x + group.y * groups.x;
  return tileOf(id, (M + ROWS - 1u) / ROWS, (N + 31u) / 32u) * vec2u(ROWS, 32u);
}

@compute @workgroup_size(8)
fn store(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let corner = cornerOf(group, groups);
  let row = corner.x;
  let col = corner.y + lane * 4u;
  multiply(beginTile(row, col), row, col, lane);
  for (var i = 0u; i < ROWS; i++) { store4(row + i, col, staging[i * 8u + lane]); }
}

@compute @workgroup_size(8)
fn storeGelu(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let corner = cornerOf(group, groups);
  let row = corner.x;
  let col = corner.y + lane * 4u;
  multiply(beginTile(row, col), row, col, lane);
  for (var i = 0u; i < ROWS; i++) { storeGelu4(row + i, col, staging[i * 8u + lane]); }
}

@compute @workgroup_size(8)
fn storeDropout(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let corner = cornerOf(group, groups);
  let row = corner.x;
  let col = corner.y + lane * 4u;
  multiply(beginTile(row, col), row, col, lane);
  for (var i = 0u; i < ROWS; i++) { storeDropout4(row + i, col, staging[i * 8u + lane]); }
}

@compute @workgroup_size(8)
fn grid(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let corner = cornerOf(group, groups);
  let row = corner.x;
  let col = corner.y + lane * 4u;
  multiply(Tile(), row, col, lane);
  for (var i = 0u; i < ROWS; i++) { grid4(row + i, col, staging[i * 8u + lane]); }
}
