// Sums of squares of the gradients, for clipping: one for each chunk (squares.wgsl).
// low, high [n] (64-bit sums, n any multiple of 64); squares: one value for each chunk of them.
//! import grid
//! import squares

@group(0) @binding(0) var<storage, read> low: array<vec4u>;
@group(0) @binding(1) var<storage, read> high: array<vec4u>;
@group(0) @binding(2) var<storage, read_write> squares: array<f32>;

@compute @workgroup_size(CHUNK_LANES, CHUNKS)
fn chunk_squares(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let chunk = group.x * CHUNKS + local.y;
  let end = min(arrayLength(&low), (chunk + 1u) * CHUNK_VECTORS);
  var own = vec4f();
  for (var i = chunk * CHUNK_VECTORS + local.x; i < end; i += CHUNK_LANES) {
    let g = fromGrid(low[i], high[i]);
    own += g * g;
  }
  let total = chunkSquares(own, local);
  if (local.x == 0u && chunk < arrayLength(&squares)) { squares[chunk] = total; }
}
