import { describe, expect, test } from 'vitest';
import { stepExponent } from '../../src/train/step-exponent.js';

/** The float64 just below or above a positive one. */
function neighbour(x: number, by: 1n | -1n): number {
  return new Float64Array(BigInt64Array.of(new BigInt64Array(Float64Array.of(x).buffer)[0] + by).buffer)[0];
}

describe('the exponent of the steps in which weights move', () => {
  test('is that of half the power of two at or below the learning rate', () => {
    expect(stepExponent(4e-4)).toBe(-13);
    expect(stepExponent(3e-3)).toBe(-10);
    expect(stepExponent(1)).toBe(-1);
    expect(stepExponent(1.999)).toBe(-1);
  });

  test('is exact at powers of two and next to them', () => {
    for (let e = -59; e <= 40; e++) {
      expect(stepExponent(2 ** e), `2^${e}`).toBe(e - 1);
      expect(stepExponent(neighbour(2 ** e, 1n)), `above 2^${e}`).toBe(e - 1);
      expect(stepExponent(neighbour(2 ** e, -1n)), `below 2^${e}`).toBe(Math.max(-60, e - 2));
    }
  });

  test('is -60 at least, and there is none where nothing is learned', () => {
    for (const tiny of [2 ** -59, 2 ** -60, 1e-30, 2 ** -1022, 5e-324]) expect(stepExponent(tiny), `${tiny}`).toBe(-60);
    expect(stepExponent(0)).toBeUndefined();
  });
});
