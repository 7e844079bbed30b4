// Two 32-bit checksums of a bucket of weights: the sums of two mixes of each word and its index. Plain sums of the words
// would miss two flipped signs. The sums are of integers, so their order does not matter. A thread adds 16 vec4s, then a
// workgroup makes one atomic addition.
// With the define `moved`, the checksum is of the weights after their moves (moves.wgsl), which nobody has written yet.
// values [n], n any multiple of 64; sums: the two words from AT on, zero at first; moves [n / 8]: 4 bits a value.
//! moved: //! import moves

override AT: u32 = 0u;

@group(0) @binding(0) var<storage, read> values: array<vec4u>;
@group(0) @binding(1) var<storage, read_write> sums: array<atomic<u32>>;
@group(0) @binding(2) var<storage, read> moves: array<u32>;

fn bitsAt(i: u32) -> vec4u {
  return values[i];  //! moved: return bitcast<vec4u>(moved(bitcast<vec4f>(values[i]), movesIn(moves[i / 2u] >> (16u * (i & 1u)))));
}

const THREADS = 64u;
const EACH = 16u;  // vec4s of one thread

var<workgroup> total: array<atomic<u32>, 2>;

// lowbias32, by Chris Wellons' hash prospector
fn mix32(word: vec4u) -> vec4u {
  var x = word;
  x = (x ^ (x >> vec4u(16u))) * 0x7feb352du;
  x = (x ^ (x >> vec4u(15u))) * 0x846ca68bu;
  return x ^ (x >> vec4u(16u));
}

@compute @workgroup_size(64)
fn checksum(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let start = group.x * THREADS * EACH + local.x;
  let end = min(start + THREADS * EACH, arrayLength(&values));
  var a = vec4u();
  var b = vec4u();
  for (var i = start; i < end; i += THREADS) {
    let place = 4u * i + vec4u(0u, 1u, 2u, 3u);
    let first = mix32(bitsAt(i) ^ (place * 0x9e3779b9u));
    a += first;
    b += mix32(first + 0x7f4a7c15u);
  }
  atomicAdd(&total[0], a.x + a.y + a.z + a.w);
  atomicAdd(&total[1], b.x + b.y + b.z + b.w);
  workgroupBarrier();
  if (local.x < 2u) { atomicAdd(&sums[AT + local.x], atomicLoad(&total[local.x])); }
}
