import { describe, expect, test } from 'vitest';
import { rounded } from '../../src/reference/arithmetic.js';
import { product } from '../../src/reference/products.js';
import { noise } from '../gpu/harness.js';

/** Values of all magnitudes from 2^-50 on, as float32 of 24 significant bits. */
const operands = (seed: number) => noise(20_000, seed).map((v, i) => v * 2 ** ((i % 80) - 40));

describe('the rules of portable arithmetic', () => {
  test('products of operands of 12 bits are exact, so that fusing them with a sum changes nothing; of 24 bits they are not', () => {
    const [a, b] = [operands(1), operands(2)];
    // float64 holds a product of two float32 exactly.
    const inexact = (round: (v: number) => number) =>
      a.filter((v, i) => Math.fround(round(v) * round(b[i])) !== round(v) * round(b[i])).length;
    expect(inexact(rounded)).toBe(0);
    expect(inexact((v) => v)).toBeGreaterThan(a.length / 2);
  });

  test('a product of 300 terms is the sum of its segments of 256, and not one chain', () => {
    const [a, b] = [noise(300, 3), noise(300, 4)];
    const part = (from: number, to: number) =>
      product({ layout: 'NN', m: 1, n: 1, k: to - from, a: a.slice(from, to), b: b.slice(from, to) })[0];
    const [whole] = product({ layout: 'NN', m: 1, n: 1, k: 300, a, b });
    expect(whole).toBe(Math.fround(part(0, 256) + part(256, 300)));
    let chain = 0;
    for (const [i, v] of a.entries()) chain = Math.fround(chain + rounded(v) * rounded(b[i]));
    expect(whole).not.toBe(chain);
  });
});
