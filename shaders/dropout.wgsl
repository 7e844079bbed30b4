// The gradient through a dropout: destination = source * factor, with the factors of the forward pass computed again.
// source, destination [B, SIZE] f32, SIZE = values of one sequence. A thread takes two places, which share a random block.
//! import random

override SIZE: u32 = 16u;

@group(0) @binding(0) var<storage, read> source: array<f32>;
@group(0) @binding(1) var<storage, read_write> destination: array<f32>;
@group(0) @binding(2) var<uniform> dropoutKey: DropoutKey;

@compute @workgroup_size(64)
fn backward(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let place = 2u * id.x;
  if (place >= SIZE) { return; }
  let key = vec2u(dropoutKey.k0, dropoutKey.k1);
  let words = threefry(key, vec2u(dropoutKey.firstSlot + id.y, place >> 1u));
  let factors = select(vec2f(dropoutKey.scale), vec2f(), words < vec2u(dropoutKey.threshold));
  let at = id.y * SIZE + place;
  destination[at] = source[at] * factors.x;
  if (place + 1u < SIZE) { destination[at + 1u] = source[at + 1u] * factors.y; }
}
