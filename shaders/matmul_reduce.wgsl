//! import epilogue
// The second step of split-K (`splitK` of matmul_tile.wgsl is the first): adds the partial products in order, then runs an
// epilogue (epilogue.wgsl). A thread owns four consecutive values of a row.

override SPLIT_K = 2u;

@group(0) @binding(0) var<storage, read> partials: array<vec4f>;  // [SPLIT_K, M, ceil(N / 4)]

const THREADS = 64u;

// (row, column) of this thread's first value. For threads past the last one, the row is M or more.
fn placeOf(group: vec3u, groups: vec3u, i: u32) -> vec2u {
  let at = (group.x + group.y * groups.x) * THREADS + i;
  let across = (N + 3u) / 4u;
  return vec2u(at / across, at % across * 4u);
}

fn total(begin: vec4f, place: vec2u) -> vec4f {
  let across = (N + 3u) / 4u;
  var sum = begin;
  if (place.x < extent.rows) {
    for (var s = 0u; s < SPLIT_K; s++) { sum = keep4(sum + partials[(s * extent.rows + place.x) * across + place.y / 4u]); }
  }
  return sum;
}

//! each STORE: store storeGelu storeDropout
@compute @workgroup_size(THREADS)
fn STORE(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) i: u32,
) {
  let p = placeOf(group, groups, i);
  STORE4(p.x, p.y, total(begin4(p.x, p.y), p));
}
//! end

@compute @workgroup_size(THREADS)
fn fixed(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(local_invocation_index) i: u32,
) {
  let p = placeOf(group, groups, i);
  reportStatus(fixed4(p.x, p.y, total(vec4f(), p), 0u));
}
