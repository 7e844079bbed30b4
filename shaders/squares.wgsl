// The sum of the squares of the gradients of one chunk of 4,096 values, in an order that depends on nothing: eight
// threads take a vec4 each, then the next eight vec4s; a thread adds its vec4s, then the four sums of its vec4, and one
// thread adds those of all eight. The host adds the chunks in float64. CHUNKS chunks share a workgroup, for GPUs that
// want more threads in one; no sum depends on it.

const CHUNK_VECTORS = 1024u;
const CHUNK_LANES = 8u;
override CHUNKS: u32 = 1u;

var<workgroup> laneSquares: array<f32, CHUNK_LANES * CHUNKS>;

// The sum over the eight threads of the chunk in row `local.y` of the workgroup; `own` holds a thread's squares. All
// threads of the workgroup must come here, and the first of each chunk has the sum.
fn chunkSquares(own: vec4f, local: vec3u) -> f32 {
  let first = local.y * CHUNK_LANES;
  laneSquares[first + local.x] = (own.x + own.y) + (own.z + own.w);
  workgroupBarrier();
  var total = 0.0;
  if (local.x == 0u) {
    for (var lane = 0u; lane < CHUNK_LANES; lane++) { total += laneSquares[first + lane]; }
  }
  return total;
}
