// Moves weights of one bucket in the low wire, in place: s + k * 2^F, from a packed update (`apply`, format:
// cluster/exchange/low-blocks.ts) or from the moves themselves (`advance`). In `apply` four threads share a block: a thread
// has eight values of each of the four streams, which lie in 32 bits of it at most.
// blocks [ceil(n / 128)]: offset * 16 + code of each block, checked by the host; moves [n / 8]: 4 bits a value; weights
// [n], n any multiple of 64.
//! import low_blocks
//! import loops
//! import moves

@group(0) @binding(0) var<storage, read> packed: array<u32>;
@group(0) @binding(1) var<storage, read> blocks: array<u32>;
@group(0) @binding(2) var<storage, read_write> weights: array<vec4f>;
@group(0) @binding(3) var<storage, read> moves: array<u32>;

const VECTORS = 8u;  // of one thread of `apply`

fn wordsAt(at: u32) -> vec4u { return vec4u(packed[at], packed[at + 1u], packed[at + 2u], packed[at + 3u]); }

@compute @workgroup_size(64)
fn apply(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let first = id.x * VECTORS;
  if (first >= arrayLength(&weights)) { return; }
  let block = blocks[first / BLOCK_VECTORS];
  let bits = bitsOf(block & 15u);
  let bit = bits * (first % BLOCK_VECTORS);
  let at = (block >> 4u) + 4u * (bit / 32u);
  let shift = bit % 32u;
  // The thread's part of each stream. Bits of the next word count only where the part ends in it.
  let next = select(vec4u(), wordsAt(at + 4u) << vec4u((32u - shift) & 31u), shift != 0u);
  var part = (wordsAt(at) >> vec4u(shift)) | next;
  let empty = 32u - max(bits, 1u);
  for (var i = first; i < first + rounds(VECTORS, groups.x); i++) {
    let k = bitcast<vec4i>(part << vec4u(empty)) >> vec4u(empty);
    weights[i] = moved(weights[i], select(vec4f(k), vec4f(), bits == 0u));
    part = part >> vec4u(bits);
  }
}

// A thread has the eight weights of one word of moves.
@compute @workgroup_size(64)
fn advance(@builtin(global_invocation_id) id: vec3u) {
  let i = id.x;
  if (2u * i >= arrayLength(&weights)) { return; }
  let word = moves[i];
  weights[2u * i] = moved(weights[2u * i], movesIn(word));
  weights[2u * i + 1u] = moved(weights[2u * i + 1u], movesIn(word >> 16u));
}
