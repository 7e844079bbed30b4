//! import arithmetic
// Makes the copy of a weight matrix that products of portable arithmetic read: destination = source, rounded to 12 bits.
// source, destination [N], N any number, in whole vec4s; a thread takes VECTORS vec4s, 64 apart.

override N: u32 = 64u;

const VECTORS = 8u;

@group(0) @binding(0) var<storage, read> source: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> destination: array<vec4f>;

@compute @workgroup_size(64)
fn convert(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) thread: u32) {
  let first = (group.x + group.y * groups.x) * 64u * VECTORS + thread;
  let end = min(first + 64u * VECTORS, (N + 3u) / 4u);
  for (var i = first; i < end; i += 64u) { destination[i] = rounded4(source[i]); }
}
