import type { HostMath } from './host-math.js';

/**
 * Threefry-2x32 with 20 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a counter-based
 * generator, so that everything random is a function of (key, counter) and of nothing else. `shaders/random.wgsl` is
 * the same function on the GPU.
 */
const ROTATIONS = [13, 15, 26, 6, 17, 29, 16, 24] as const;
const PARITY = 0x1bd11bda;

export type Key = readonly [number, number];

/** Both words of the block at counter (c0, c1) under `key`, each an unsigned 32-bit integer. */
export function threefry(key: Key, c0: number, c1: number): [number, number] {
  const k0 = key[0] | 0;
  const k1 = key[1] | 0;
  const ks = [k0, k1, k0 ^ k1 ^ PARITY];
  let x0 = (c0 + k0) | 0;
  let x1 = (c1 + k1) | 0;
  for (let round = 0; round < 20; round++) {
    const r = ROTATIONS[round & 7];
    x0 = (x0 + x1) | 0;
    x1 = ((x1 << r) | (x1 >>> (32 - r))) ^ x0;
    if ((round & 3) === 3) {
      const s = (round >> 2) + 1;
      x0 = (x0 + ks[s % 3]) | 0;
      x1 = (x1 + ks[(s + 1) % 3] + s) | 0;
    }
  }
  return [x0 >>> 0, x1 >>> 0];
}

/** The purposes of random numbers. Each has its own stream. */
export const Stream = { weights: 1, shuffle: 2, dropout: 3, sampling: 4, probe: 5, rounding: 6 } as const;

/** The key of stream `purpose` under `seed` (an integer below 2^53), narrowed by `a` and `b` (step, epoch, site ...). */
export function deriveKey(seed: number, purpose: number, a = 0, b = 0): Key {
  const root = threefry([seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0], purpose, 0);
  return threefry(root, a, b);
}

/** Uniform in [0, 1) with 32 bits, one value for each index. */
export function uniformAt(key: Key, index: number): number {
  const block = Math.floor(index / 2);
  const words = threefry(key, block >>> 0, Math.floor(block / 2 ** 32));
  return words[index % 2] / 2 ** 32;
}

/**
 * Normal values of standard deviation `std`, written to `out`: Box-Muller in float64, two values a block.
 */
export function fillNormal(key: Key, out: Float32Array, std: number, math: HostMath): void {
  for (let i = 0; i < out.length; i += 2) {
    const [a, b] = threefry(key, i >>> 1, 0);
    const radius = std * Math.sqrt(-2 * math.log((a + 1) / 2 ** 32));
    const [cos, sin] = math.cosSinOfTurn(b);
    out[i] = radius * cos;
    if (i + 1 < out.length) out[i + 1] = radius * sin;
  }
}

/** Uniform values in [-bound, bound), written to `out`. */
export function fillUniform(key: Key, out: Float32Array, bound: number): void {
  for (let i = 0; i < out.length; i += 2) {
    const [a, b] = threefry(key, i >>> 1, 0);
    out[i] = (a / 2 ** 31 - 1) * bound;
    if (i + 1 < out.length) out[i + 1] = (b / 2 ** 31 - 1) * bound;
  }
}

/** The permutation of 0 .. n-1 under `key` (Fisher-Yates from the end). */
export function permutation(key: Key, n: number): Uint32Array {
  const order = Uint32Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const j = Math.floor(uniformAt(key, i) * (i + 1));
    const t = order[i];
    order[i] = order[j];
    order[j] = t;
  }
  return order;
}
