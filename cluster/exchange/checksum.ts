/**
 * Two 32-bit sums over the words of a buffer, as frames carry them. They find faults of memory, wires and adapters, not
 * forgery: that is what TLS and the token are for. Two formulas give one: `payloadChecksum` is quick on a processor,
 * `weightsChecksum` is what a GPU computes of a bucket of weights.
 */
export interface Checksum {
  readonly a: number;
  readonly b: number;
}

/**
 * Over the words w_0 .. w_(n-1), modulo 2^32, of whole words at an aligned offset:
 *
 *     a = sum of w_i        b = sum of (w_i xor (w_i >>> 16)) * (2 i + 1)
 *
 * `a` sees every change of one word; `b` sees words that change places, and mixing the high half in keeps two flips of a
 * sign bit from cancelling. Four words a turn have sums of their own, which a processor adds side by side: three times
 * as fast as one by one.
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
 * What `shaders/checksum.wgsl` computes of a bucket of weights, given as their bits: sums, in any order, of two mixes of
 * each word's bits and place.
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

/** A bijection of 32 bits without visible pattern (lowbias32, by Chris Wellons' hash prospector). */
function mix(word: number): number {
  let x = word;
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return x ^ (x >>> 16);
}
