// Packs the integers of one bucket in blocks of 256, each in the fewest bytes that hold all of its values. The format,
// with a drawing, is in cluster/exchange/blocks.ts. Three passes:
//
//   widths    eight threads a block, neighbours on neighbouring words: the width that the block needs
//   offsets   one workgroup in all: where each block starts (a prefix sum of integers), the header, the widths
//   scatter   one workgroup a block: the payload
//
// In `scatter`, thread t has values 4t to 4t + 3 of its block. In each plane of the format these are whole words, so threads
// share no word. The values are read in two passes, because a block's offset is known only once all widths are, and keeping
// the values would cost more.
// a, b [n], n any multiple of 64 up to 2^20: 64-bit integers as low and high words or, with DIFFERENCES, the bits of
// the weights before and after. blocks [ceil(n / 256)] is scratch: widths first, then offset * 16 + width.
//! import order_key

override DIFFERENCES: bool = false;

@group(0) @binding(0) var<storage, read> a: array<vec4u>;
@group(0) @binding(1) var<storage, read> b: array<vec4u>;
@group(0) @binding(2) var<storage, read_write> blocks: array<u32>;
@group(0) @binding(3) var<storage, read_write> packed: array<u32>;

struct Integers {
  low: vec4u,
  high: vec4u,
}

fn integersAt(i: u32) -> Integers {
  if (DIFFERENCES) {
    let low = orderKey(b[i]) - orderKey(a[i]);
    return Integers(low, bitcast<vec4u>(bitcast<vec4i>(low) >> vec4u(31u)));
  }
  return Integers(a[i], b[i]);
}

// The OR of four words.
fn anyOf(v: vec4u) -> u32 { return v.x | v.y | v.z | v.w; }

fn widthOf(v: Integers) -> u32 {
  let sign = bitcast<vec4u>(bitcast<vec4i>(v.high) >> vec4u(31u));
  let low = anyOf(v.low ^ sign);
  let high = anyOf(v.high ^ sign);
  if (high >= 128u) { return 8u; }
  if (high > 0u || low >= 0x80000000u) { return 5u; }
  if (low >= 0x800000u) { return 4u; }
  if (low >= 0x8000u) { return 3u; }
  if (low >= 0x80u) { return 2u; }
  return u32((low | anyOf(sign)) != 0u);
}

const LANES = 8u;  // threads of `widths` that share a block; blocks of one workgroup

var<workgroup> widest: array<u32, 64>;

@compute @workgroup_size(64)
fn widths(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let start = (group.x * LANES + local.x / LANES) * 64u + local.x % LANES;
  let end = min(start + 64u, arrayLength(&a));
  var width = 0u;
  for (var i = start; i < end; i += LANES) { width = max(width, widthOf(integersAt(i))); }
  widest[local.x] = width;
  workgroupBarrier();
  let block = group.x * LANES + local.x;
  if (local.x >= LANES || block * 64u >= arrayLength(&a)) { return; }
  width = 0u;
  for (var i = 0u; i < LANES; i++) { width = max(width, widest[local.x * LANES + i]); }
  blocks[block] = width;
}

const HEADER = 4u;
const EACH = 16u;  // blocks of one thread of `offsets`

var<workgroup> starts: array<u32, 256>;

// How many vec4s of values the block has: the words of its payload for each byte of its width.
fn vec4Count(block: u32, count: u32) -> u32 { return min(64u, count - block * 64u); }

@compute @workgroup_size(256)
fn offsets(@builtin(local_invocation_id) local: vec3u) {
  let count = arrayLength(&a);  // in vec4s, as threads have them
  let blockCount = (count + 63u) / 64u;
  let first = local.x * EACH;
  let end = min(first + EACH, blockCount);
  var words = 0u;
  for (var block = first; block < end; block++) { words += blocks[block] * vec4Count(block, count); }
  starts[local.x] = words;
  workgroupBarrier();
  if (local.x == 0u) {
    var at = HEADER + (blockCount + 3u) / 4u;
    for (var i = 0u; i < 256u; i++) {
      let size = starts[i];
      starts[i] = at;
      at += size;
    }
    packed[0] = at;
    packed[1] = count * 4u;
    packed[2] = 0u;
    packed[3] = 0u;
  }
  workgroupBarrier();
  var at = starts[local.x];
  for (var block = first; block < end; block += 4u) {
    var bytes = 0u;
    for (var i = 0u; i < 4u && block + i < end; i++) {
      let width = blocks[block + i];
      blocks[block + i] = (at << 4u) | width;
      bytes |= width << (8u * i);
      at += width * vec4Count(block + i, count);
    }
    packed[HEADER + block / 4u] = bytes;
  }
}

fn fourBytes(v: vec4u) -> u32 {
  let w = (v & vec4u(255u)) << vec4u(0u, 8u, 16u, 24u);
  return w.x | w.y | w.z | w.w;
}

fn putHalves(at: u32, v: vec4u) {
  packed[at] = (v.x & 0xffffu) | (v.y << 16u);
  packed[at + 1u] = (v.z & 0xffffu) | (v.w << 16u);
}

fn putWords(at: u32, v: vec4u) {
  packed[at] = v.x;
  packed[at + 1u] = v.y;
  packed[at + 2u] = v.z;
  packed[at + 3u] = v.w;
}

@compute @workgroup_size(64)
fn scatter(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = group.x * 64u + local.x;
  let block = blocks[group.x];
  let width = block & 15u;
  if (i >= arrayLength(&a) || width == 0u) { return; }
  let n = vec4Count(group.x, arrayLength(&a));
  let at = block >> 4u;
  let t = local.x;
  let v = integersAt(i);
  switch width {
    case 1u: { packed[at + t] = fourBytes(v.low); }
    case 2u: { putHalves(at + 2u * t, v.low); }
    case 3u: {
      putHalves(at + 2u * t, v.low);
      packed[at + 2u * n + t] = fourBytes(v.low >> vec4u(16u));
    }
    case 4u: { putWords(at + 4u * t, v.low); }
    case 5u: {
      putWords(at + 4u * t, v.low);
      packed[at + 4u * n + t] = fourBytes(v.high);
    }
    default: {
      putWords(at + 4u * t, v.low);
      putWords(at + 4u * (n + t), v.high);
    }
  }
}
