//! import arithmetic
// Makes the copy of a weight matrix that products of portable arithmetic read: destination = source, rounded to 12 bits.
// source, destination [N], N any number; a thread takes four values.

override N: u32 = 64u;

@group(0) @binding(0) var<storage, read> source: array<f32>;
@group(0) @binding(1) var<storage, read_write> destination: array<f32>;

@compute @workgroup_size(64)
fn convert(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let first = (id.x + id.y * groups.x * 64u) * 4u;
  for (var i = first; i < min(first + 4u, N); i++) { destination[i] = rounded(source[i]); }
}
