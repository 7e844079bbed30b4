//! import arithmetic
//! import extent
// Copies a matrix into the order in which a product's kernel reads it (matmul.ts).
//
//   transpose   target[COLS, ROWS] = source[ROWS, COLS]^T    a thread moves a block of 4 x 4
//   space       target[ROWS, COLS] = source[ROWS, COLS]      a thread moves four values of a row
//
// With `round` the copy is rounded to 12 bits (portable.wgsl).
// LDT is a multiple of 4. Values between a row's end and the next multiple of 4 are written, but never used.

override COLS: u32;
override LDS: u32;
override LDT: u32;
override VECTOR: bool;  // LDS is a multiple of 4

const THREADS = 64u;

alias Value = f32;  //! f16: alias Value = f16;
@group(0) @binding(0) var<storage, read> source: array<Value>;
@group(0) @binding(1) var<storage, read> source4: array<vec4<Value>>;  // the same view
@group(0) @binding(2) var<storage, read_write> target4: array<vec4<Value>>;

fn copied(v: vec4<Value>) -> vec4<Value> { return v; }  //! round: fn copied(v: vec4f) -> vec4f { return rounded4(v); }

fn load(row: u32, col: u32) -> vec4<Value> {
  let at = min(row, extent.rows - 1u) * LDS + col;
  if (VECTOR) { return copied(source4[at / 4u]); }
  return copied(vec4(source[at], source[at + 1u], source[at + 2u], source[at + 3u]));
}

fn store(row: u32, col: u32, v: vec4<Value>) {
  if (row < COLS) { target4[(row * LDT + col) / 4u] = v; }
}

// (row, column) of this thread's block, in blocks. Threads are counted along rows of blocks of four columns.
fn blockOf(group: vec3u, groups: vec3u, thread: u32) -> vec2u {
  let across = (COLS + 3u) / 4u;
  let id = (group.x + group.y * groups.x) * THREADS + thread;
  return vec2u(id / across, id % across);
}

@compute @workgroup_size(THREADS)
fn transpose(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let block = blockOf(group, groups, thread);
  let row = block.x * 4u;
  let col = block.y * 4u;
  if (row >= extent.rows) { return; }
  let r0 = load(row, col);
  let r1 = load(row + 1u, col);
  let r2 = load(row + 2u, col);
  let r3 = load(row + 3u, col);
  store(col, row, vec4(r0.x, r1.x, r2.x, r3.x));
  store(col + 1u, row, vec4(r0.y, r1.y, r2.y, r3.y));
  store(col + 2u, row, vec4(r0.z, r1.z, r2.z, r3.z));
  store(col + 3u, row, vec4(r0.w, r1.w, r2.w, r3.w));
}

@compute @workgroup_size(THREADS)
fn space(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) thread: u32,
) {
  let block = blockOf(group, groups, thread);
  let row = block.x;
  let col = block.y * 4u;
  if (row >= extent.rows) { return; }
  target4[(row * LDT + col) / 4u] = load(row, col);
}
