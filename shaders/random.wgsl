// Threefry-2x32, 20 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011); the same function
// as src/util/random.ts. A mask is a function of (key, slot, place), so it is not stored and no order matters.

// One for each dropout site of the graph. The host derives the key from (seed, step, site).
struct DropoutKey {
  k0: u32,
  k1: u32,
  firstSlot: u32,  // slot in the global batch of the micro-batch's first sequence
  threshold: u32,  // a value is dropped when its 32 random bits are below; 0 keeps everything
  scale: f32,      // of what is kept: 1 / (1 - p)
}

fn threefryRotate(x: u32, r: u32) -> u32 { return (x << r) | (x >> (32u - r)); }

fn threefryMix(x: vec2u, r: u32) -> vec2u {
  let a = x.x + x.y;
  return vec2u(a, threefryRotate(x.y, r) ^ a);
}

fn threefry(k: vec2u, counter: vec2u) -> vec2u {
  let k2 = k.x ^ k.y ^ 0x1bd11bdau;
  var x = counter + k;
  x = threefryMix(x, 13u); x = threefryMix(x, 15u); x = threefryMix(x, 26u); x = threefryMix(x, 6u);
  x += vec2u(k.y, k2 + 1u);
  x = threefryMix(x, 17u); x = threefryMix(x, 29u); x = threefryMix(x, 16u); x = threefryMix(x, 24u);
  x += vec2u(k2, k.x + 2u);
  x = threefryMix(x, 13u); x = threefryMix(x, 15u); x = threefryMix(x, 26u); x = threefryMix(x, 6u);
  x += vec2u(k.x, k.y + 3u);
  x = threefryMix(x, 17u); x = threefryMix(x, 29u); x = threefryMix(x, 16u); x = threefryMix(x, 24u);
  x += vec2u(k.y, k2 + 4u);
  x = threefryMix(x, 13u); x = threefryMix(x, 15u); x = threefryMix(x, 26u); x = threefryMix(x, 6u);
  x += vec2u(k2, k.x + 5u);
  return x;
}

// The factor of the value at `place` inside sequence `slot`: 0 or scale. Places 2i and 2i + 1 share a block.
fn dropoutFactor(key: DropoutKey, slot: u32, place: u32) -> f32 {
  let words = threefry(vec2u(key.k0, key.k1), vec2u(slot, place >> 1u));
  let word = select(words.x, words.y, (place & 1u) == 1u);
  return select(key.scale, 0.0, word < key.threshold);
}

// The factors of four consecutive places; `place` is a multiple of 2.
fn dropoutFactor4(key: DropoutKey, slot: u32, place: u32) -> vec4f {
  let k = vec2u(key.k0, key.k1);
  let words = vec4u(threefry(k, vec2u(slot, place >> 1u)), threefry(k, vec2u(slot, (place >> 1u) + 1u)));
  return select(vec4f(key.scale), vec4f(), words < vec4u(key.threshold));
}
