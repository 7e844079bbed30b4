/**
 * Two 32-bit sums over the words w_0 .. w_(n-1) of a buffer, modulo 2^32:
 *
 *     a = sum of w_i        b = sum of (w_i xor (w_i >>> 16)) * (2 i + 1)
 *
 * Sums in any order agree, so a GPU adds them by workgroup and JavaScript in one loop. `a` sees every change of one
 * word; `b` sees words that change places, and mixing the high half in keeps two flips of a sign bit from cancelling.
 * It finds faults of memory and wires, not forgery: that is what TLS and the token are for.
 */
export interface Checksum {
  readonly a: number;
  readonly b: number;
}

export function checksum(words: Uint32Array | Int32Array): Checksum {
  const { length } = words;
  let [a0, a1, b0, b1] = [0, 0, 0, 0];
  let i = 0;
  for (; i + 1 < length; i += 2) {
    const w0 = words[i] | 0;
    const w1 = words[i + 1] | 0;
    a0 = (a0 + w0) | 0;
    a1 = (a1 + w1) | 0;
    b0 = (b0 + Math.imul(w0 ^ (w0 >>> 16), 2 * i + 1)) | 0;
    b1 = (b1 + Math.imul(w1 ^ (w1 >>> 16), 2 * i + 3)) | 0;
  }
  if (i < length) {
    const w = words[i] | 0;
    a0 = (a0 + w) | 0;
    b0 = (b0 + Math.imul(w ^ (w >>> 16), 2 * i + 1)) | 0;
  }
  return { a: (a0 + a1) >>> 0, b: (b0 + b1) >>> 0 };
}

/** The checksum of bytes; whole words at an aligned offset. */
export function checksumBytes(bytes: Uint8Array): Checksum {
  return checksum(new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4));
}

export function equalChecksums(x: Checksum, y: Checksum): boolean {
  return x.a === y.a && x.b === y.b;
}
