//! import arithmetic
// The sum of the squares of the gradients of one chunk of 4,096 values, always in the same order. Eight lanes take a vec4
// each, then the next eight vec4s. A lane adds its vec4s, then the four components of its sum. One thread adds those of all
// eight lanes. The host adds the chunks in float64.
//
// On software adapters a workgroup has these eight lanes only. A GPU wants more threads: CHUNK_THREADS of them put
// STAGE_VECTORS of the chunk at a time into workgroup memory. Eight of them add these (addStage), in the same order.

const CHUNK_VECTORS = 1024u;
const CHUNK_LANES = 8u;
const BLOCK_VECTORS = 16u;  // of 64 values, which share what is known of them
const STAGE_VECTORS = 512u;  //! low: const STAGE_VECTORS = 256u;  // The update needs workgroup memory for itself.
override CHUNK_THREADS: u32 = 8u;
const_assert CHUNK_VECTORS % STAGE_VECTORS == 0u;

var<workgroup> laneSquares: array<f32, CHUNK_LANES>;
var<workgroup> stage: array<vec4f, select(1u, STAGE_VECTORS, CHUNK_THREADS > CHUNK_LANES)>;

// Returns `own` plus this lane's squares of the stage. All threads of the workgroup must call it.
fn addStage(own: vec4f, thread: u32) -> vec4f {
  var sum = own;
  workgroupBarrier();
  if (thread < CHUNK_LANES) {
    for (var i = thread; i < STAGE_VECTORS; i += CHUNK_LANES) { sum = keep4(sum + settle4(stage[i] * stage[i])); }
  }
  workgroupBarrier();
  return sum;
}

// The sum of `own`, a lane's squares, over the eight lanes. All threads of the workgroup must call it; the first one gets the
// sum.
fn totalOfLanes(own: vec4f, thread: u32) -> f32 {
  if (thread < CHUNK_LANES) { laneSquares[thread] = keep(keep(own.x + own.y) + keep(own.z + own.w)); }
  workgroupBarrier();
  var total = 0.0;
  if (thread == 0u) {
    for (var lane = 0u; lane < CHUNK_LANES; lane++) { total = keep(total + laneSquares[lane]); }
  }
  return total;
}
