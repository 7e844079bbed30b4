//! import f16_range
// Makes the float16 copy of a weight matrix: destination = source, rounded. A value beyond float16 becomes NaN.
// source, destination [N]; a thread takes four values.

alias Value = f32;  //! f16: alias Value = f16;

override N: u32 = 64u;

@group(0) @binding(0) var<storage, read> source: array<f32>;
@group(0) @binding(1) var<storage, read_write> destination: array<Value>;

@compute @workgroup_size(64)
fn convert(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let first = (id.x + id.y * groups.x * 64u) * 4u;
  for (var i = first; i < min(first + 4u, N); i++) { destination[i] = Value(f16Range(source[i])); }
}
