// Packs the integers of one bucket in the low wire's blocks of 128, each in the fewest bits that hold all of its values.
// The format, with a drawing, is in cluster/exchange/low-blocks.ts. Three passes, for 64-bit sums or for moves:
//
//   widths    the code of each block. Sums: eight threads a block, neighbours on neighbouring words; moves: one thread
//   offsets   one workgroup in all: where each block starts (a prefix sum of integers), the header, the codes; of moves the
//             grid bytes. The check words become zero
//   scatter   one thread a block: the payload. A step takes value i of all four streams
//
// a, b [n], n any multiple of 64 up to 2^20: the sums as low and high words. moves [n / 8]: 4 bits a value. grid
// [ceil(n / 256)]: four bytes a word. blocks [ceil(n / 128)] is scratch: codes first, then offset * 16 + code.
//! import low_blocks
//! import loops

@group(0) @binding(0) var<storage, read> a: array<vec4u>;
@group(0) @binding(1) var<storage, read> b: array<vec4u>;
@group(0) @binding(2) var<storage, read_write> blocks: array<u32>;
@group(0) @binding(3) var<storage, read_write> packed: array<u32>;
@group(0) @binding(4) var<storage, read> moves: array<u32>;
@group(0) @binding(5) var<storage, read> grid: array<u32>;

// The OR of four words.
fn anyOf(v: vec4u) -> u32 { return v.x | v.y | v.z | v.w; }

// The code of sums whose words, exclusive-or their signs, and whose signs are ORed together.
fn codeOf(low: u32, high: u32, sign: u32) -> u32 {
  if ((low | high | sign) == 0u) { return 0u; }
  let bits = 33u - countLeadingZeros(low);
  if (high != 0u || bits > 32u) { return 15u; }
  if (bits > 16u) { return select(14u, 13u, bits <= 24u); }
  if (bits > 10u) { return 10u + (bits - 11u) / 2u; }
  return max(bits, 2u) - 1u;
}

const LANES = 8u;  // threads of `sumWidths` that share a block; blocks of one workgroup

var<workgroup> widest: array<vec3u, 64>;

@compute @workgroup_size(64)
fn sumWidths(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let start = (group.x * LANES + local.x / LANES) * BLOCK_VECTORS + local.x % LANES;
  let end = min(start + BLOCK_VECTORS, arrayLength(&a));
  var low = vec4u();
  var high = vec4u();
  var signs = vec4u();
  for (var i = start; i < end; i += LANES) {
    let upper = b[i];
    let sign = bitcast<vec4u>(bitcast<vec4i>(upper) >> vec4u(31u));
    low |= a[i] ^ sign;
    high |= upper ^ sign;
    signs |= sign;
  }
  widest[local.x] = vec3u(anyOf(low), anyOf(high), anyOf(signs));
  workgroupBarrier();
  let block = group.x * LANES + local.x;
  if (local.x >= LANES || block * BLOCK_VECTORS >= arrayLength(&a)) { return; }
  var all = vec3u();
  for (var i = 0u; i < LANES; i++) { all |= widest[local.x * LANES + i]; }
  blocks[block] = codeOf(all.x, all.y, all.z);
}

const MOVE_WORDS = 16u;  // words of moves in a block

@compute @workgroup_size(64)
fn moveWidths(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let start = id.x * MOVE_WORDS;
  if (start >= arrayLength(&moves)) { return; }
  var all = 0u;
  var changes = 0u;  // bit i of a move is set where its bits i and i + 1 differ; bit 3 is of no use
  for (var i = 0u; i < rounds(MOVE_WORDS, groups.x); i++) {
    if (start + i >= arrayLength(&moves)) { break; }
    let word = moves[start + i];
    all |= word;
    changes |= word ^ (word >> 1u);
  }
  var code = u32(all != 0u);
  if ((changes & 0x22222222u) != 0u) { code = 2u; }
  if ((changes & 0x44444444u) != 0u) { code = 3u; }
  blocks[id.x] = code;
}

const HEADER = 4u;
const EACH = 32u;  // blocks of one thread of `offsets`: four words of codes
const OFFSET_THREADS = 256u;

var<workgroup> starts: array<u32, 256>;

// Writes the header for n values, and the codes of all blocks from word `codesAt` on.
fn writeOffsets(n: u32, codesAt: u32, thread: u32) {
  let blockCount = (n + 127u) / 128u;
  let first = thread * EACH;
  let end = min(first + EACH, blockCount);
  var words = 0u;
  for (var block = first; block < end; block++) { words += 4u * bitsOf(blocks[block]); }
  starts[thread] = words;
  workgroupBarrier();
  if (thread == 0u) {
    var at = codesAt + (blockCount + 7u) / 8u;
    for (var i = 0u; i < OFFSET_THREADS; i++) {
      let size = starts[i];
      starts[i] = at;
      at += size;
    }
    packed[0] = at;
    packed[1] = n;
    packed[2] = 0u;
    packed[3] = 0u;
  }
  workgroupBarrier();
  var at = starts[thread];
  for (var block = first; block < end; block += 8u) {
    var codes = 0u;
    for (var i = 0u; i < 8u && block + i < end; i++) {
      let code = blocks[block + i];
      blocks[block + i] = (at << 4u) | code;
      codes |= code << (4u * i);
      at += 4u * bitsOf(code);
    }
    packed[codesAt + block / 8u] = codes;
  }
}

@compute @workgroup_size(OFFSET_THREADS)
fn sumOffsets(@builtin(local_invocation_index) thread: u32) {
  writeOffsets(4u * arrayLength(&a), HEADER, thread);
}

@compute @workgroup_size(OFFSET_THREADS)
fn moveOffsets(@builtin(local_invocation_index) thread: u32) {
  for (var i = thread; i < arrayLength(&grid); i += OFFSET_THREADS) { packed[HEADER + i] = grid[i]; }
  writeOffsets(8u * arrayLength(&moves), HEADER + arrayLength(&grid), thread);
}

fn putWords(at: u32, v: vec4u) {
  packed[at] = v.x;
  packed[at + 1u] = v.y;
  packed[at + 2u] = v.z;
  packed[at + 3u] = v.w;
}

// The words of vec4 i of the bucket, of which the lowest bits count.
fn sumWords(i: u32) -> vec4u { return a[i]; }
fn moveWords(i: u32) -> vec4u { return vec4u(moves[i / 2u] >> (16u * (i & 1u))) >> vec4u(0u, 4u, 8u, 12u); }

// Of a bucket, how many vec4s.
fn sumVectors() -> u32 { return arrayLength(&a); }
fn moveVectors() -> u32 { return 2u * arrayLength(&moves); }

//! each SOURCE: sum move
// The streams of a block in `bits` bits a value, 1 to 32, from word `start` on.
fn SOURCEStreams(block: u32, bits: u32, start: u32, count: u32) {
  let mask = 0xffffffffu >> (32u - bits);
  var at = start;
  var words = vec4u();
  var filled = 0u;
  for (var i = 0u; i < count; i++) {
    let place = block * BLOCK_VECTORS + i;
    var v = vec4u();
    if (place < SOURCEVectors()) { v = SOURCEWords(place) & vec4u(mask); }
    words |= v << vec4u(filled);
    filled += bits;
    if (filled >= 32u) {
      putWords(at, words);
      at += 4u;
      filled -= 32u;
      // What did not fit. A shift by 32 would be one by 0.
      words = select(v >> vec4u((bits - filled) & 31u), vec4u(), filled == 0u);
    }
  }
}

@compute @workgroup_size(64)
fn SOURCEScatter(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  if (id.x * BLOCK_VECTORS >= SOURCEVectors()) { return; }
  let code = blocks[id.x] & 15u;
  let at = blocks[id.x] >> 4u;
  if (code == 0u) { return; }
  SOURCEStreams(id.x, min(bitsOf(code), 32u), at, rounds(BLOCK_VECTORS, groups.x));
  SOURCERest(id.x, code, at + 4u * BLOCK_VECTORS, rounds(BLOCK_VECTORS, groups.x));
}
//! end

// The high words of a block of 64 bits.
fn sumRest(block: u32, code: u32, at: u32, count: u32) {
  if (code != 15u) { return; }
  for (var i = 0u; i < count; i++) {
    let place = block * BLOCK_VECTORS + i;
    var v = vec4u();
    if (place < arrayLength(&a)) { v = b[place]; }
    putWords(at + 4u * i, v);
  }
}

// Moves have none.
fn moveRest(block: u32, code: u32, at: u32, count: u32) {}
