// The low wire's grid from AdamW's second moments alone, for a state that was read from a checkpoint; updates compute it
// themselves (update_low.wgsl). A thread takes a word of four blocks.
// v [n], n any multiple of 64; grid: a byte for each 64 values.
//! import arithmetic
//! import grid_exponent

@group(0) @binding(0) var<storage, read> v: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> grid: array<u32>;
@group(0) @binding(2) var<uniform> gridFactor: f32;

@compute @workgroup_size(64)
fn exponents(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let word = group.x * 64u + thread;
  if (word >= arrayLength(&grid)) { return; }
  let before = grid[word];
  let blocks = min(4u, arrayLength(&v) / 16u - 4u * word);
  var bytes = 0u;
  for (var b = 0u; b < blocks; b++) {
    let first = (4u * word + b) * 16u;
    var sum = 0.0;
    for (var i = first; i < first + 16u; i++) { sum = keep(sum + sumOfFour(v[i])); }
    bytes |= nextGridByte(sum, gridFactor, byteIn(before, b)) << (8u * b);
  }
  grid[word] = bytes;
}
