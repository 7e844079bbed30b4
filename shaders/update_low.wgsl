// What the update of the low wire does besides AdamW (adamw.wgsl), which changes the master weights here:
//
//   k = the integer nearest to (master - weights) / unit, ties to even, between -3 and 3
//   weights = weights + k * unit          unit = 2^F, from the learning rate
//
// so `weights`, which everybody computes with, follow the master weights in multiples of a power of two, and what k leaves over
// stays in their difference. The pass also computes the grid for the next step (grid_exponent.wgsl), and the noise of each
// chunk: the expected square of the error that rounding to the grid adds to the gradients, noiseFactor * 4^E for each value
// (M micro-batches of 4^E / 6), where any of its vec4 is not zero.
//
// With `owner` neither weights nor grid change: `moves` takes the next grid's bytes and then the k, 4 bits each, value n in bits
// 4 (n % 8) of word n / 8. The grid's words are rounded up to a multiple of 64.
// update_exact.wgsl has the same functions.
//! import grid_exponent

@group(0) @binding(8) var<storage, read_write> master: array<vec4f>;
// owner  //! owner: @group(0) @binding(10) var<storage, read_write> moves: array<u32>;

// Of each vec4 of the chunk: the sum of its moments, with the sign bit set where its gradient is not zero.
var<workgroup> sums: array<u32, CHUNK_VECTORS>;
var<workgroup> noises: array<f32, 16>;
// owner  //! owner: var<workgroup> halves: array<u32, CHUNK_VECTORS>;

fn decaysAt(block: u32) -> bool { return (gridByteAt(block) & 128u) != 0u; }

fn weightsAt(i: u32) -> vec4f { return master[i]; }

// 1.5 * 2^23: a float32 of this size has no bits behind the point, so adding it rounds to the nearest integer, ties to even.
// A compiler that may reorder sums takes both away, so only portable arithmetic rounds in this way.
const NEAREST = 12582912.0;

// rule (b): products with powers of two
fn movesOf(w: vec4f, s: vec4f) -> vec4f {
  let wanted = clamp(keep4(w - s) * step.inverseUnit, vec4f(-3.0), vec4f(3.0));
  return round(wanted);  //! portable: return keep4(keep4(wanted + NEAREST) - NEAREST);
}

// rule (b): products with powers of two
fn putWeights(i: u32, w: vec4f) {
  master[i] = w;
  let s = weights[i];
  let k = movesOf(w, s);
  weights[i] = settle4(s + keep4(k * step.unit));  //! owner: let n = (vec4u(vec4i(k)) & vec4u(15u)) << vec4u(0u, 4u, 8u, 12u);
  // owner  //! owner: halves[i % CHUNK_VECTORS] = n.x | n.y | n.z | n.w;
}

fn noteFour(i: u32, v: vec4f, gradient: vec4f) {
  sums[i % CHUNK_VECTORS] = bitcast<u32>(sumOfFour(v)) | select(0u, 0x80000000u, any(gradient != vec4f()));
}

// The words of grid bytes of all blocks, rounded up.
fn paddedGridWords() -> u32 { return (arrayLength(&weights) + 4095u) / 4096u * 64u; }

fn putGrid(word: u32, bytes: u32) { grid[word] = bytes; }  //! owner: fn putGrid(word: u32, bytes: u32) { moves[word] = bytes; }

fn putMoves(chunk: u32, thread: u32) {
  // owner  //! owner: let words = min(512u, arrayLength(&weights) / 2u - chunk * 512u);
  // owner  //! owner: for (var w = thread; w < words; w += CHUNK_THREADS) { moves[paddedGridWords() + chunk * 512u + w] = halves[2u * w] | (halves[2u * w + 1u] << 16u); }
}

// The next grid bytes of four blocks, `word` of the chunk's 16 words; puts their noise into `noises`.
fn finishWord(chunk: u32, word: u32) {
  let at = chunk * 16u + word;
  let before = grid[at];
  let blocks = min(4u, arrayLength(&weights) / 16u - 4u * at);
  var bytes = 0u;
  var noise = 0.0;
  for (var b = 0u; b < blocks; b++) {
    let first = (4u * word + b) * 16u;
    var sum = 0.0;
    var touched = 0u;
    for (var i = first; i < first + 16u; i++) {
      sum = keep(sum + bitcast<f32>(sums[i] & 0x7fffffffu));
      touched += sums[i] >> 31u;
    }
    let byte = byteIn(before, b);
    bytes |= nextGridByte(sum, step.gridFactor, byte) << (8u * b);
    let each = settle(step.noiseFactor * powerOfTwo(2 * gridExponent(byte)));
    noise = keep(noise + settle(each * f32(4u * touched)));
  }
  putGrid(at, bytes);
  noises[word] = noise;
}

// All threads of the workgroup call it; `total` is the first thread's. The barrier of `totalOfLanes` came before.
fn finishChunk(chunk: u32, thread: u32, total: f32) {
  let words = min(16u, (arrayLength(&weights) + 63u) / 64u - chunk * 16u);
  for (var word = thread; word < words; word += CHUNK_THREADS) { finishWord(chunk, word); }
  putMoves(chunk, thread);
  workgroupBarrier();
  if (thread == 0u) {
    var noise = 0.0;
    for (var word = 0u; word < words; word++) { noise = keep(noise + noises[word]); }
    putSquares(chunk, total);
    squares[chunk].y = noise;
  }
}
