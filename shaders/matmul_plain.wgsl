//! import matmul_operands
// C = A B in three layouts (matmul_operands.wgsl), as simple as possible: the tuner checks other kernels against it. A thread
// owns four consecutive values of a row and adds their products one by one, k rising.

fn operandA(row: u32, k: u32) -> f32 {
  return f32(a[select(row * LDA + k, k * LDA + row, LAYOUT == TN)]);
}

fn operandB(k: u32, col: u32) -> f32 {
  return f32(b[select(k * LDB + col, col * LDB + k, LAYOUT == NT)]);
}

// Columns past the last one read the last one; their values are never stored. In TN, `s` is the index of
// the product in its stack.
fn product(begin: vec4f, row: u32, col: u32, s: u32) -> vec4f {
  var sum = begin;
  if (row >= extent.rows || col >= N) { return sum; }
  for (var k = s * K; k < (s + 1u) * K; k++) {
    let x = operandA(row, k);
    sum += x * vec4f(
      operandB(k, col),
      operandB(k, min(col + 1u, N - 1u)),
      operandB(k, min(col + 2u, N - 1u)),
      operandB(k, min(col + 3u, N - 1u)),
    );
  }
  return sum;
}

// (row, column) of this thread's first value. A workgroup owns 8 x 32 values of C.
fn placeOf(group: vec3u, groups: vec3u, i: u32) -> vec2u {
  let id = group.x + group.y * groups.x;
  return tileOf(id, (extent.rows + 7u) / 8u, (N + 31u) / 32u) * vec2u(8u, 32u) + vec2u(i / 8u, i % 8u * 4u);
}

//! each STORE: store storeGelu storeDropout
@compute @workgroup_size(64)
fn STORE(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) i: u32,
) {
  let p = placeOf(group, groups, i);
  STORE4(p.x, p.y, product(begin4(p.x, p.y), p.x, p.y, 0u));
}
//! end

@compute @workgroup_size(64)
fn fixed(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) i: u32,
) {
  let p = placeOf(group, groups, i);
  var statusBits = 0u;
  for (var s = 0u; s < extent.stack; s++) { statusBits |= fixed4(p.x, p.y, product(vec4f(), p.x, p.y, s), s); }
  reportStatus(statusBits);
}
