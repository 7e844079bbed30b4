// What the update of the exact wire does besides AdamW (adamw.wgsl): nothing but reading which blocks decay. update_low.wgsl has
// the same functions.
// decayBits: one bit for each block of 64 values.

@group(0) @binding(5) var<storage, read> decayBits: array<u32>;

// One bit for each of the chunk's 64 blocks: whether weight decay applies to it.
struct Chunk { decaying: vec2u }

// The bits are read before the loop, because a software adapter loads lane by lane.
fn chunkOf(chunk: u32) -> Chunk {
  return Chunk(vec2u(decayBits[2u * chunk], decayBits[2u * chunk + 1u]));
}

fn decaysAt(i: u32, chunk: Chunk) -> bool {
  let block = i / 16u % 64u;
  return ((select(chunk.decaying.x, chunk.decaying.y, block >= 32u) >> (block % 32u)) & 1u) == 1u;
}

fn weightsAt(i: u32) -> vec4f { return weights[i]; }

fn putWeights(i: u32, w: vec4f) { weights[i] = w; }

fn noteFour(_i: u32, _v: vec4f, _gradient: vec4f) {}

// All threads of the workgroup call it; `total` is the first thread's.
fn finishChunk(chunk: u32, thread: u32, total: f32) {
  if (thread == 0u) { putSquares(chunk, total); }
}
