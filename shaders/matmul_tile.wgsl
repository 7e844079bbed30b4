//! import matmul_operands
// C = A B in three layouts (matmul_operands.wgsl) with the epilogues of epilogue.wgsl, for GPUs: no features needed,
// WebGPU's default limits.
//
// Workgroup = one tile of TILE_ROWS x TILE_COLUMNS of C. A thread owns ROW_BLOCKS x COLUMN_BLOCKS (1 or 2 each) blocks
// of 4 x 4, each four named vec4 accumulators; its blocks lie half a tile apart, so that neighbours in a workgroup read
// neighbouring vec4:
//
//            ty | 4 rows |      tx: 4 columns  ...      4 columns
//   row 0       |  block 00                    |  block 01
//   TILE_ROWS/2 |  block 10                    |  block 11
//
// A step takes STEP values of k (a multiple of 4). With STAGED, the operands of a step are staged in workgroup memory, and
// every thread loads a share. With a tile of 64 x 64 and 16 values of k, a thread loads one vec4 of each operand, reads 32
// vec4 from workgroup memory and does 256 multiply-adds.
// Without STAGED, each thread loads its rows and columns itself, and caches serve its neighbours, which load the same. That
// needs no barriers, and is better where workgroup memory is slow or emulated.
//
// Staged tiles keep the direction of their matrix, so that no thread takes a vec4 apart (place: row or column in a tile):
//
//   "by k"    (A of TN, B of NN and TN)   tile[k * size / 4 + place / 4]                        vec4 = 4 places, one k
//   "by place" (A of NN and NT, B of NT)  tile[place / 4 * (STEP + 1) + place % 4 * STEP / 4 + k / 4]   4 k, one place
//
// STEP + 1 in place of STEP keeps the threads of a subgroup on different banks. Values beyond K are zero.
// Each accumulator adds its products one by one, k rising: the same order, whatever the sizes of tiles and steps.
//
// `splitK` is the first step of split-K (matmul_reduce.wgsl is the second): workgroups with z = s add the TERMS values of k
// from s * TERMS on.
// More than 300 lines, because the three layouts differ in how tiles are loaded and share the rest.

override TILE_ROWS = 64u;
override TILE_COLUMNS = 64u;
override ROW_BLOCKS = 1u;
override COLUMN_BLOCKS = 1u;
override STEP = 16u;
override STAGED = true;
// Terms of one part of K, a multiple of STEP; all of K where the product is not split.
override TERMS: u32;

override ROW_STRIDE = TILE_ROWS / ROW_BLOCKS;
override COLUMN_STRIDE = TILE_COLUMNS / COLUMN_BLOCKS;
override THREADS_X = TILE_COLUMNS / (4u * COLUMN_BLOCKS);
override THREADS = THREADS_X * TILE_ROWS / (4u * ROW_BLOCKS);
override TILE_A_SIZE = select(1u, TILE_ROWS / 4u * (STEP + 1u), STAGED);
override TILE_B_SIZE = select(1u, TILE_COLUMNS / 4u * (STEP + 1u), STAGED);

@group(0) @binding(13) var<storage, read_write> partial: array<vec4f>;  // [splits, M, ceil(N / 4)]

var<workgroup> tileA: array<vec4f, TILE_A_SIZE>;
var<workgroup> tileB: array<vec4f, TILE_B_SIZE>;

struct Four {
  i0: vec4f,
  i1: vec4f,
  i2: vec4f,
  i3: vec4f,
}

struct Blocks {
  b00: Four,
  b01: Four,
  b10: Four,
  b11: Four,
}

fn transpose4(v: Four) -> Four {
  return Four(
    vec4f(v.i0.x, v.i1.x, v.i2.x, v.i3.x),
    vec4f(v.i0.y, v.i1.y, v.i2.y, v.i3.y),
    vec4f(v.i0.z, v.i1.z, v.i2.z, v.i3.z),
    vec4f(v.i0.w, v.i1.w, v.i2.w, v.i3.w),
  );
}

// TN: the first row of A and B of the stack's current product.
var<private> firstRow = 0u;

// A[row, first .. first + 3] of a row-major matrix of `rows` x `cols`, zero beyond K. Values beyond M or N may be anything,
// because their results are never stored.
fn edgeA(row: u32, first: u32, rows: u32, cols: u32) -> vec4f {
  if (row >= rows || first >= cols) { return vec4f(); }
  let v = loadA((firstRow + row) * LDA + first);
  if (LAYOUT == TN || K % 4u == 0u) { return v; }
  return below(v, first, cols);
}

fn edgeB(row: u32, first: u32, rows: u32, cols: u32) -> vec4f {
  if (row >= rows || first >= cols) { return vec4f(); }
  let v = loadB((firstRow + row) * LDB + first);
  if (LAYOUT != NT || K % 4u == 0u) { return v; }
  return below(v, first, cols);
}

// Four rows from `row` on.
fn fourOfA(row: u32, first: u32, rows: u32, cols: u32) -> Four {
  return Four(
    edgeA(row, first, rows, cols),
    edgeA(row + 1u, first, rows, cols),
    edgeA(row + 2u, first, rows, cols),
    edgeA(row + 3u, first, rows, cols),
  );
}

fn fourOfB(row: u32, first: u32, rows: u32, cols: u32) -> Four {
  return Four(
    edgeB(row, first, rows, cols),
    edgeB(row + 1u, first, rows, cols),
    edgeB(row + 2u, first, rows, cols),
    edgeB(row + 3u, first, rows, cols),
  );
}

// Thread `i` loads its share of both operands, k to k + STEP - 1, for the tile of C at `corner`.
fn fill(i: u32, k: u32, corner: vec2u) {
  for (var s = i; s < TILE_ROWS * STEP / 4u; s += THREADS) {
    if (LAYOUT == TN) {
      tileA[s] = edgeA(k + s / (TILE_ROWS / 4u), corner.x + s % (TILE_ROWS / 4u) * 4u, K, extent.rows);
    } else {
      tileA[s / STEP * (STEP + 1u) + s % STEP] = edgeA(corner.x + s / (STEP / 4u), k + s % (STEP / 4u) * 4u, extent.rows, K);
    }
  }
  for (var s = i; s < TILE_COLUMNS * STEP / 4u; s += THREADS) {
    if (LAYOUT == NT) {
      tileB[s / STEP * (STEP + 1u) + s % STEP] = edgeB(corner.y + s / (STEP / 4u), k + s % (STEP / 4u) * 4u, N, K);
    } else {
      tileB[s] = edgeB(k + s / (TILE_COLUMNS / 4u), corner.y + s % (TILE_COLUMNS / 4u) * 4u, K, N);
    }
  }
}

// Four rows of A from row `place` of the tile on, at k + j to k + j + 3.
fn rowsOfA(k: u32, j: u32, corner: vec2u, place: u32) -> Four {
  if (!STAGED) {
    let row = corner.x + place;
    let first = k + j;
    if (LAYOUT == TN) {
      return transpose4(fourOfA(first, row, K, extent.rows));
    }
    return fourOfA(row, first, extent.rows, K);
  }
  if (LAYOUT == TN) {
    let across = TILE_ROWS / 4u;
    let at = j * across + place / 4u;
    return transpose4(Four(tileA[at], tileA[at + across], tileA[at + 2u * across], tileA[at + 3u * across]));
  }
  let at = place / 4u * (STEP + 1u) + j / 4u;
  return Four(tileA[at], tileA[at + STEP / 4u], tileA[at + STEP / 2u], tileA[at + STEP / 4u * 3u]);
}

// Four k of B from k + j on, at four columns from `place` on.
fn panelOfB(k: u32, j: u32, corner: vec2u, place: u32) -> Four {
  if (!STAGED) {
    let col = corner.y + place;
    let first = k + j;
    if (LAYOUT == NT) {
      return transpose4(fourOfB(col, first, N, K));
    }
    return fourOfB(first, col, K, N);
  }
  if (LAYOUT == NT) {
    let at = place / 4u * (STEP + 1u) + j / 4u;
    return transpose4(Four(tileB[at], tileB[at + STEP / 4u], tileB[at + STEP / 2u], tileB[at + STEP / 4u * 3u]));
  }
  let across = TILE_COLUMNS / 4u;
  let at = j * across + place / 4u;
  return Four(tileB[at], tileB[at + across], tileB[at + 2u * across], tileB[at + 3u * across]);
}

fn add(acc: vec4f, p: vec4f, b: Four) -> vec4f {
  let sum = plusProduct4(plusProduct4(acc, p.x, b.i0), p.y, b.i1);
  return plusProduct4(plusProduct4(sum, p.z, b.i2), p.w, b.i3);
}

fn addBlock(t: Four, rows: Four, panel: Four) -> Four {
  return Four(add(t.i0, rows.i0, panel), add(t.i1, rows.i1, panel), add(t.i2, rows.i2, panel), add(t.i3, rows.i3, panel));
}

fn addFour(t: Blocks, k: u32, j: u32, corner: vec2u, tx: u32, ty: u32) -> Blocks {
  var sum = t;
  let panel0 = panelOfB(k, j, corner, 4u * tx);
  let rows0 = rowsOfA(k, j, corner, 4u * ty);
  sum.b00 = addBlock(t.b00, rows0, panel0);
  if (ROW_BLOCKS > 1u) {
    let rows1 = rowsOfA(k, j, corner, ROW_STRIDE + 4u * ty);
    sum.b10 = addBlock(t.b10, rows1, panel0);
    if (COLUMN_BLOCKS > 1u) {
      let panel1 = panelOfB(k, j, corner, COLUMN_STRIDE + 4u * tx);
      sum.b01 = addBlock(t.b01, rows0, panel1);
      sum.b11 = addBlock(t.b11, rows1, panel1);
    }
  } else if (COLUMN_BLOCKS > 1u) {
    sum.b01 = addBlock(t.b01, rows0, panelOfB(k, j, corner, COLUMN_STRIDE + 4u * tx));
  }
  return sum;
}

fn multiply(begin: Blocks, corner: vec2u, split: u32, i: u32) -> Blocks {
  var first = 0u;
  var end = K;
  if (TERMS < K) {
    first = split * TERMS;
    end = min(K, first + TERMS);
  }
  if (!SEGMENTED) { return addTerms(begin, corner, first, end, i); }
  var total = begin;
  for (var k = first; k < end; k += SEGMENT) {
    total = plusSegment(total, addTerms(Blocks(), corner, k, min(end, k + SEGMENT), i));
  }
  return total;
}

fn plusSegmentFour(total: Four, sum: Four) -> Four {
  return Four(
    plusSegment4(total.i0, sum.i0), plusSegment4(total.i1, sum.i1),
    plusSegment4(total.i2, sum.i2), plusSegment4(total.i3, sum.i3));
}

fn plusSegment(total: Blocks, sum: Blocks) -> Blocks {
  var t: Blocks;
  t.b00 = plusSegmentFour(total.b00, sum.b00);
  if (ROW_BLOCKS > 1u) { t.b10 = plusSegmentFour(total.b10, sum.b10); }
  if (COLUMN_BLOCKS > 1u) { t.b01 = plusSegmentFour(total.b01, sum.b01); }
  if (ROW_BLOCKS > 1u && COLUMN_BLOCKS > 1u) { t.b11 = plusSegmentFour(total.b11, sum.b11); }
  return t;
}

// Adds the terms from `first` up to `end`.
fn addTerms(begin: Blocks, corner: vec2u, first: u32, end: u32, i: u32) -> Blocks {
  let tx = i % THREADS_X;
  let ty = i / THREADS_X;
  var t = begin;
  for (var k = first; k < end; k += STEP) {
    if (STAGED) {
      fill(i, k, corner);
      workgroupBarrier();
    }
    for (var j = 0u; j < rounds(STEP, extent.stack); j += 4u) { t = addFour(t, k, j, corner, tx, ty); }
    if (STAGED) { workgroupBarrier(); }
  }
  return t;
}

// A thread's accumulators have numbers: four of block 00, then of 10, 01 and 11. Epilogues run in a loop over them, because
// software drivers take tens of seconds to compile them unrolled.

override PIECES = 4u * ROW_BLOCKS * COLUMN_BLOCKS;

fn rowIn(block: Four, r: u32) -> vec4f {
  return select(select(block.i3, block.i2, r == 2u), select(block.i1, block.i0, r == 0u), r < 2u);
}

fn piece(t: Blocks, p: u32) -> vec4f {
  let r = p % 4u;
  let b = p / 4u;
  var v = rowIn(t.b00, r);
  if (ROW_BLOCKS > 1u) {
    v = select(v, rowIn(t.b10, r), b == 1u);
    if (COLUMN_BLOCKS > 1u) {
      v = select(v, rowIn(t.b01, r), b == 2u);
      v = select(v, rowIn(t.b11, r), b == 3u);
    }
  } else if (COLUMN_BLOCKS > 1u) {
    v = select(v, rowIn(t.b01, r), b == 1u);
  }
  return v;
}

// (row, column) of C of piece `p`; piece 0 of the thread is at `first`.
fn placeOf(first: vec2u, p: u32) -> vec2u {
  let b = p / 4u;
  return first + vec2u(b % ROW_BLOCKS * ROW_STRIDE + p % 4u, b / ROW_BLOCKS * COLUMN_STRIDE);
}

fn beginBlock(row: u32, col: u32) -> Four {
  return Four(begin4(row, col), begin4(row + 1u, col), begin4(row + 2u, col), begin4(row + 3u, col));
}

fn beginBlocks(first: vec2u) -> Blocks {
  var t: Blocks;
  if (!ACCUMULATE) { return t; }
  t.b00 = beginBlock(first.x, first.y);
  if (ROW_BLOCKS > 1u) { t.b10 = beginBlock(first.x + ROW_STRIDE, first.y); }
  if (COLUMN_BLOCKS > 1u) { t.b01 = beginBlock(first.x, first.y + COLUMN_STRIDE); }
  if (ROW_BLOCKS > 1u && COLUMN_BLOCKS > 1u) { t.b11 = beginBlock(first.x + ROW_STRIDE, first.y + COLUMN_STRIDE); }
  return t;
}

// The first row and column of the workgroup's tile; the row is M or more past the last tile.
fn cornerOf(group: vec3u, groups: vec3u) -> vec2u {
  let down = (extent.rows + TILE_ROWS - 1u) / TILE_ROWS;
  let across = (N + TILE_COLUMNS - 1u) / TILE_COLUMNS;
  let id = group.x + group.y * groups.x;
  if (id >= down * across) { return vec2u(extent.rows, N); }
  return tileOf(id, down, across) * vec2u(TILE_ROWS, TILE_COLUMNS);
}

fn firstOf(corner: vec2u, i: u32) -> vec2u {
  return corner + 4u * vec2u(i / THREADS_X, i % THREADS_X);
}

//! each STORE: store storeGelu storeDropout
@compute @workgroup_size(THREADS)
fn STORE(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) i: u32,
) {
  let corner = cornerOf(group, groups);
  if (corner.x >= extent.rows) { return; }
  let first = firstOf(corner, i);
  let t = multiply(beginBlocks(first), corner, 0u, i);
  for (var p = 0u; p < rounds(PIECES, extent.stack); p++) {
    let place = placeOf(first, p);
    STORE4(place.x, place.y, piece(t, p));
  }
}
//! end

@compute @workgroup_size(THREADS)
fn fixed(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) i: u32,
) {
  let corner = cornerOf(group, groups);
  if (corner.x >= extent.rows) { return; }
  let first = firstOf(corner, i);
  var statusBits = 0u;
  for (var s = 0u; s < extent.stack; s++) {
    firstRow = s * K;
    let t = multiply(Blocks(), corner, 0u, i);
    for (var p = 0u; p < rounds(PIECES, extent.stack); p++) {
      let place = placeOf(first, p);
      statusBits |= fixed4(place.x, place.y, piece(t, p), s);
    }
  }
  reportStatus(statusBits);
}

@compute @workgroup_size(THREADS)
fn splitK(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) i: u32,
) {
  let corner = cornerOf(group, groups);
  if (corner.x >= extent.rows) { return; }
  let first = firstOf(corner, i);
  let t = multiply(Blocks(), corner, group.z, i);
  for (var p = 0u; p < rounds(PIECES, extent.stack); p++) {
    let place = placeOf(first, p);
    if (!outside(place.x, place.y)) {
      partial[(group.z * extent.rows + place.x) * ((N + 3u) / 4u) + place.y / 4u] = piece(t, p);
    }
  }
}
