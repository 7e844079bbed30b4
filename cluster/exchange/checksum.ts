/**
 * Two 32-bit sums over the words of a buffer, as frames carry them. They detect faults of memory, wires and adapters.
 * Against forgery there are TLS and the token. There are two formulas: `payloadChecksum` is fast on a processor,
 * `weightsChecksum` is what a GPU computes for a bucket of weights.
 */
export interface Checksum {
  readonly a: number;
  readonly b: number;
}

/**
 * Checksum of the words w_0 .. w_(n-1), modulo 2^32. `bytes` must be aligned, and whole words:
 *
 *     a = sum of w_i        b = sum of (w_i xor (w_i >>> 16)) * (2 i + 1)
 *
 * `a` detects every change of one word. `b` detects swapped words; mixing in the high half keeps two flipped sign bits
 * from cancelling. Each iteration adds four words to separate sums in parallel: three times as fast as one word.
 */
export function payloadChecksum(bytes: Uint8Array): Checksum {
  const words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  const { length } = words;
  let [a0, a1, b0, b1, b2, b3] = [0, 0, 0, 0, 0, 0];
  let i = 0;
  let factor = 1;
  for (; i + 3 < length; i += 4, factor += 8) {
    const w0 = words[i];
    const w1 = words[i + 1];
    const w2 = words[i + 2];
    const w3 = words[i + 3];
    a0 = (a0 + w0 + w1) | 0;
    a1 = (a1 + w2 + w3) | 0;
    b0 = (b0 + Math.imul(w0 ^ (w0 >>> 16), factor)) | 0;
    b1 = (b1 + Math.imul(w1 ^ (w1 >>> 16), factor + 2)) | 0;
    b2 = (b2 + Math.imul(w2 ^ (w2 >>> 16), factor + 4)) | 0;
    b3 = (b3 + Math.imul(w3 ^ (w3 >>> 16), factor + 6)) | 0;
  }
  for (; i < length; i++, factor += 2) {
    a0 = (a0 + words[i]) | 0;
    b0 = (b0 + Math.imul(words[i] ^ (words[i] >>> 16), factor)) | 0;
  }
  return { a: (a0 + a1) >>> 0, b: (b0 + b1 + b2 + b3) >>> 0 };
}

export function equalChecksums(x: Checksum, y: Checksum): boolean {
  return x.a === y.a && x.b === y.b;
}

/**
 * The checksum that `shaders/checksum.wgsl` computes for a bucket of weights. `bits`: the weights as 32-bit words. Both
 * sums add up mixes of the bits and the index of each word, in any order.
 */
export function weightsChecksum(bits: Uint32Array): Checksum {
  let a = 0;
  let b = 0;
  for (let i = 0; i < bits.length; i++) {
    const first = mix(bits[i] ^ Math.imul(i, 0x9e3779b9));
    a = (a + first) | 0;
    b = (b + mix(first + 0x7f4a7c15)) | 0;
  }
  return { a: a >>> 0, b: b >>> 0 };
}

/** A bijection on 32 bits with low bias (lowbias32, found by Chris Wellons' hash prospector). */
function mix(word: number): number {
  let x = word;
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return x ^ (x >>> 16);
}
