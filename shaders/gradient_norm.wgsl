// The sum of the squares of the gradients, for clipping: one for each chunk (squares.wgsl).
// low, high [n]: 64-bit sums, n any multiple of 64; squares: see gradients_exact.wgsl and gradients_low.wgsl.
//! import arithmetic
//! import squares
//! import gradients_exact  //! low: //! import gradients_low

fn vectors() -> u32 { return arrayLength(&low); }  //! owner: fn vectors() -> u32 { return arrayLength(&low) / 2u; }

@compute @workgroup_size(CHUNK_THREADS)
fn chunkSquares(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let begin = group.x * CHUNK_VECTORS;
  let end = min(vectors(), begin + CHUNK_VECTORS);
  var own = vec4f();
  if (CHUNK_THREADS == CHUNK_LANES) {
    for (var first = begin; first < end; first += BLOCK_VECTORS) {
      let unit = unitAt(first / BLOCK_VECTORS);
      for (var i = first + thread; i < first + BLOCK_VECTORS; i += CHUNK_LANES) {
        let g = gradientAt(i, unit);
        own = keep4(own + settle4(g * g));
      }
    }
  } else {
    for (var at = begin; at < begin + CHUNK_VECTORS; at += STAGE_VECTORS) {
      for (var i = thread; i < STAGE_VECTORS; i += CHUNK_THREADS) {
        if (at + i < end) { stage[i] = gradientAt(at + i, unitAt((at + i) / BLOCK_VECTORS)); } else { stage[i] = vec4f(); }
      }
      own = addStage(own, thread);
    }
  }
  let total = totalOfLanes(own, thread);
  if (thread == 0u) { putSquares(group.x, total); }
}
