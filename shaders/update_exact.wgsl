// What the update of the exact wire does besides AdamW (adamw.wgsl): nothing but reading which blocks decay. update_low.wgsl has
// the same functions.
// decayBits: one bit for each block of 64 values.

@group(0) @binding(5) var<storage, read> decayBits: array<u32>;

fn decaysAt(block: u32) -> bool { return ((decayBits[block / 32u] >> (block % 32u)) & 1u) == 1u; }

fn weightsAt(i: u32) -> vec4f { return weights[i]; }

fn putWeights(i: u32, w: vec4f) { weights[i] = w; }

fn noteFour(_i: u32, _v: vec4f, _gradient: vec4f) {}

// All threads of the workgroup call it; `total` is the first thread's.
fn finishChunk(chunk: u32, thread: u32, total: f32) {
  if (thread == 0u) { putSquares(chunk, total); }
}
