//! import matmul_operands
// C = A B in three layouts (matmul_operands.wgsl) with the epilogues of epilogue.wgsl, for GPUs: no features needed,
// WebGPU's default limits.
//
// Workgroup = 256 threads = one tile of 64 x 64 of C; thread (tx, ty) owns its rows from 4 ty and its columns from 4 tx
// on, four of each, one named vec4 accumulator a row. A step takes 16 values of k:
// every thread brings one vec4 of A and one of B into workgroup memory (8.5 KiB in all), then reads 32 vec4 for its 256
// multiply-adds.
//
// Slabs in workgroup memory keep the direction of their matrix, so that no vec4 is taken apart by threads:
//
//   "by k"    (A of TN, B of NN and TN)   slab[k * 16 + place / 4]                           vec4 = 4 places, one k
//   "by place" (A of NN and NT, B of NT)  slab[place / 4 * 17 + place % 4 * 4 + k / 4]       vec4 = 4 k, one place
//
// where place is the row or column in the tile; 17 in place of 16 keeps the threads of a subgroup on different banks.
// Values beyond the matrices' edges are zero in the slabs. Each accumulator adds, k rising in steps of 4, the sum of
// four products: the same fixed order as matmul_subgroup.wgsl.

const SLAB = 272u;

var<workgroup> slabA: array<vec4f, SLAB>;
var<workgroup> slabB: array<vec4f, SLAB>;

struct Four {
  i0: vec4f,
  i1: vec4f,
  i2: vec4f,
  i3: vec4f,
}

fn transpose4(v: Four) -> Four {
  return Four(
    vec4f(v.i0.x, v.i1.x, v.i2.x, v.i3.x),
    vec4f(v.i0.y, v.i1.y, v.i2.y, v.i3.y),
    vec4f(v.i0.z, v.i1.z, v.i2.z, v.i3.z),
    vec4f(v.i0.w, v.i1.w, v.i2.w, v.i3.w),
  );
}

// A[row, first .. first + 3] of a row-major matrix of `rows` x `cols`, zero beyond its edges.
fn edgeA(row: u32, first: u32, rows: u32, cols: u32) -> vec4f {
  if (row >= rows || first >= cols) { return vec4f(); }
  let v = loadA(row * LDA + first);
  if (cols % 4u == 0u) { return v; }
  return below(v, first, cols);
}

fn edgeB(row: u32, first: u32, rows: u32, cols: u32) -> vec4f {
  if (row >= rows || first >= cols) { return vec4f(); }
  let v = loadB(row * LDB + first);
  if (cols % 4u == 0u) { return v; }
  return below(v, first, cols);
}

// Thread `i` fills one vec4 of each slab with the values of k to k + 15 for the tile at (row, col).
fn fill(i: u32, k: u32, row: u32, col: u32) {
  let byK = i;
  let byPlace = i / 16u * 17u + i % 16u;
  if (LAYOUT == TN) {
    slabA[byK] = edgeA(k + i / 16u, row + i % 16u * 4u, K, M);
  } else {
    slabA[byPlace] = edgeA(row + i / 4u, k + i % 4u * 4u, M, K);
  }
  if (LAYOUT == NT) {
    slabB[byPlace] = edgeB(col + i / 4u, k + i % 4u * 4u, N, K);
  } else {
    slabB[byK] = edgeB(k + i / 16u, col + i % 16u * 4u, K, N);
  }
}

// Four rows of A, each its values of four k: the q-th four of the slab.
fn rowsOfA(q: u32, ty: u32) -> Four {
  if (LAYOUT == TN) {
    let at = q * 64u + ty;
    return transpose4(Four(slabA[at], slabA[at + 16u], slabA[at + 32u], slabA[at + 48u]));
  }
  let at = ty * 17u + q;
  return Four(slabA[at], slabA[at + 4u], slabA[at + 8u], slabA[at + 12u]);
}

// Four k of B, each its values of four columns.
fn panelOfB(q: u32, tx: u32) -> Four {
  if (LAYOUT == NT) {
    let at = tx * 17u + q;
    return transpose4(Four(slabB[at], slabB[at + 4u], slabB[at + 8u], slabB[at + 12u]));
  }
  let at = q * 64u + tx;
  return Four(slabB[at], slabB[at + 16u], slabB[at + 32u], slabB[at + 48u]);
}

fn add(acc: vec4f, p: vec4f, b: Four) -> vec4f {
  return acc + (p.x * b.i0 + p.y * b.i1 + p.z * b.i2 + p.w * b.i3);
}

fn addFour(t: Four, q: u32, tx: u32, ty: u32) -> Four {
  let rows = rowsOfA(q, ty);
  let panel = panelOfB(q, tx);
  return Four(
    add(t.i0, rows.i0, panel),
    add(t.i1, rows.i1, panel),
    add(t.i2, rows.i2, panel),
    add(t.i3, rows.i3, panel),
  );
}

fn multiply(begin: Four, corner: vec2u, i: u32) -> Four {
  var t = begin;
  for (var k = 0u; k < K; k += 16u) {
    fill(i, k, corner.x, corner.y);
    workgroupBarrier();
    t = addFour(t, 0u, i % 16u, i / 16u);
    t = addFour(t, 1u, i % 16u, i / 16u);
    t = addFour(t, 2u, i % 16u, i / 16u);
    t = addFour(t, 3u, i % 16u, i / 16u);
    workgroupBarrier();
  }
  return t;
}

// Epilogues run in a loop: unrolled, their code takes software drivers tens of seconds to compile.
fn rowOf(t: Four, r: u32) -> vec4f {
  return select(select(t.i3, t.i2, r == 2u), select(t.i1, t.i0, r == 0u), r < 2u);
}

fn beginTile(row: u32, col: u32) -> Four {
  return Four(begin4(row, col), begin4(row + 1u, col), begin4(row + 2u, col), begin4(row + 3u, col));
}

// The first row and column of the workgroup's tile; the row is M or more past the last tile.
fn cornerOf(group: vec3u, groups: vec3u) -> vec2u {
  let down = (M + 63u) / 64u;
  let across = (N + 63u) / 64u;
  let id = group.x + group.y * groups.x;
  if (id >= down * across) { return vec2u(M, N); }
  return tileOf(id, down, across) * 64u;
}

@compute @workgroup_size(256)
fn store(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) i: u32,
) {
  let corner = cornerOf(group, groups);
  if (corner.x >= M) { return; }
  let row = corner.x + i / 16u * 4u;
  let col = corner.y + i % 16u * 4u;
  let t = multiply(beginTile(row, col), corner, i);
  for (var r = 0u; r < 4u; r++) { store4(row + r, col, rowOf(t, r)); }
}

@compute @workgroup_size(256)
fn storeGelu(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) i: u32,
) {
  let corner = cornerOf(group, groups);
  if (corner.x >= M) { return; }
  let row = corner.x + i / 16u * 4u;
  let col = corner.y + i % 16u * 4u;
  let t = multiply(beginTile(row, col), corner, i);
  for (var r = 0u; r < 4u; r++) { storeGelu4(row + r, col, rowOf(t, r)); }
}

@compute @workgroup_size(256)
fn storeDropout(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) i: u32,
) {
  let corner = cornerOf(group, groups);
  if (corner.x >= M) { return; }
  let row = corner.x + i / 16u * 4u;
  let col = corner.y + i % 16u * 4u;
  let t = multiply(beginTile(row, col), corner, i);
  for (var r = 0u; r < 4u; r++) { storeDropout4(row + r, col, rowOf(t, r)); }
}

@compute @workgroup_size(256)
fn grid(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) i: u32,
) {
  let corner = cornerOf(group, groups);
  if (corner.x >= M) { return; }
  let row = corner.x + i / 16u * 4u;
  let col = corner.y + i % 16u * 4u;
  let t = multiply(Four(), corner, i);
  for (var r = 0u; r < 4u; r++) { grid4(row + r, col, rowOf(t, r)); }
}
