// The sum of the squares of the gradients, for clipping: one for each chunk (squares.wgsl).
// low, high [n]: 64-bit sums, n any multiple of 64; squares: one value for each chunk.
//! import fixed_point
//! import squares

@group(0) @binding(0) var<storage, read> low: array<vec4u>;
@group(0) @binding(1) var<storage, read> high: array<vec4u>;
@group(0) @binding(2) var<storage, read_write> squares: array<f32>;

fn gradientAt(i: u32) -> vec4f {
  return fromFixedPoint(low[i], high[i]);
}

@compute @workgroup_size(CHUNK_THREADS)
fn chunkSquares(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let begin = group.x * CHUNK_VECTORS;
  let end = min(arrayLength(&low), begin + CHUNK_VECTORS);
  var own = vec4f();
  if (CHUNK_THREADS == CHUNK_LANES) {
    for (var i = begin + thread; i < end; i += CHUNK_LANES) {
      let g = gradientAt(i);
      own = keep4(own + settle4(g * g));
    }
  } else {
    for (var at = begin; at < begin + CHUNK_VECTORS; at += STAGE_VECTORS) {
      for (var i = thread; i < STAGE_VECTORS; i += CHUNK_THREADS) {
        if (at + i < end) { stage[i] = gradientAt(at + i); } else { stage[i] = vec4f(); }
      }
      own = addStage(own, thread);
    }
  }
  let total = totalOfLanes(own, thread);
  if (thread == 0u) { squares[group.x] = total; }
}
