// The sum of the squares of the gradients of one chunk of 4,096 values, in an order that depends on nothing: eight lanes
// take a vec4 each, then the next eight vec4s; a lane adds its vec4s, then the four sums of its vec4, and one thread adds
// those of all eight. The host adds the chunks in float64.
//
// On software adapters the eight lanes are all threads there are. A GPU wants more to meet a chunk: CHUNK_THREADS of them
// leave a STAGE_VECTORS of it in workgroup memory at a time, from where eight add it up (addStage), in the same order.

const CHUNK_VECTORS = 1024u;
const CHUNK_LANES = 8u;
const STAGE_VECTORS = 512u;
override CHUNK_THREADS: u32 = 8u;
const_assert CHUNK_VECTORS % STAGE_VECTORS == 0u;

var<workgroup> laneSquares: array<f32, CHUNK_LANES>;
var<workgroup> stage: array<vec4f, select(1u, STAGE_VECTORS, CHUNK_THREADS > CHUNK_LANES)>;

// Adds the squares of the stage to those that this thread has; all threads of the workgroup must come here.
fn addStage(own: vec4f, thread: u32) -> vec4f {
  var sum = own;
  workgroupBarrier();
  if (thread < CHUNK_LANES) {
    for (var i = thread; i < STAGE_VECTORS; i += CHUNK_LANES) { sum += stage[i] * stage[i]; }
  }
  workgroupBarrier();
  return sum;
}

// The sum over the eight lanes of the workgroup's chunk; `own` holds a lane's squares. All threads of the workgroup must
// come here, and the first has the sum.
fn totalOfLanes(own: vec4f, thread: u32) -> f32 {
  if (thread < CHUNK_LANES) { laneSquares[thread] = (own.x + own.y) + (own.z + own.w); }
  workgroupBarrier();
  var total = 0.0;
  if (thread == 0u) {
    for (var lane = 0u; lane < CHUNK_LANES; lane++) { total += laneSquares[lane]; }
  }
  return total;
}
