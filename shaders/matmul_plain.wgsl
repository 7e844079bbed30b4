//! import matmul_operands
// C = A B in three layouts (matmul_operands.wgsl), as simple as possible: the tuner checks other kernels against it. A thread
// owns four consecutive values of a row and adds their products one by one, k rising.

fn operandA(row: u32, k: u32) -> f32 {
  return operandA4(vec4f(f32(a[select(row * LDA + k, k * LDA + row, LAYOUT == TN)]))).x;
}

// One value of each of four columns; past the last one, the last one's.
fn operandB(k: u32, col: u32) -> vec4f {
  let last = N - 1u;
  return operandB4(vec4f(valueOfB(k, col), valueOfB(k, min(col + 1u, last)), valueOfB(k, min(col + 2u, last)), valueOfB(k, min(col + 3u, last))));
}

fn valueOfB(k: u32, col: u32) -> f32 {
  return f32(b[select(k * LDB + col, col * LDB + k, LAYOUT == NT)]);
}

fn addTerms(begin: vec4f, row: u32, col: u32, first: u32, end: u32) -> vec4f {
  var sum = begin;
  for (var k = first; k < end; k++) { sum = plusProduct4(sum, operandA(row, k), operandB(k, col)); }
  return sum;
}

// In TN, `s` is the index of the product in its stack. Values of columns past the last one are never stored.
fn product(begin: vec4f, row: u32, col: u32, s: u32) -> vec4f {
  if (row >= extent.rows || col >= N) { return begin; }
  let end = (s + 1u) * K;
  if (!SEGMENTED) { return addTerms(begin, row, col, s * K, end); }
  var total = begin;
  for (var first = s * K; first < end; first += SEGMENT) {
    total = plusSegment4(total, addTerms(vec4f(), row, col, first, min(end, first + SEGMENT)));
  }
  return total;
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
