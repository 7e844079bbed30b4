import { describe, expect, test } from 'vitest';
import { fromBits, settle } from '../../src/reference/arithmetic.js';
import {
  gradientOf,
  gridExponents,
  move,
  moved,
  randomOf,
  roundingErrors,
  roundToGrid,
} from '../../src/reference/low-wire.js';
import { deriveKey, Stream, threefry } from '../../src/util/random.js';
import { noise } from '../gpu/harness.js';

const f32 = Math.fround;
const DRAWS = 2 ** 16;

/** The sum of the rounded value over all random numbers, less what it is without a bias, in 2^-16 of a step of the grid. */
function biasOf(value: number, exponent: number): number {
  // A float64 holds it: a float32 times a power of two.
  const whole = value * 2 ** (16 - exponent);
  let sum = 0n;
  for (let u = 0; u < DRAWS; u++) sum += roundToGrid(value, exponent, u);
  return Number(sum - BigInt(Math.floor(whole))) - (whole - Math.floor(whole));
}

/** Bits of a float32's mantissa that are below the grid. */
const bitsBelow = (value: number, exponent: number) => exponent - (Math.floor(Math.log2(Math.abs(value))) - 23);

const LARGEST = 2 ** 12 - 2 ** -12;
const DENORMAL = fromBits(0x007fffff);

describe('rounding to the grid', () => {
  const VALUES = [0.1, -0.1, 2 / 3, 1e-3, -1e-3, f32(Math.PI), LARGEST].map(f32);

  test.each([-40, -24, -13, -4, 0, 8])('has no bias over all random numbers, with E = %i', (exponent) => {
    for (const value of [...VALUES, ...VALUES.map((v) => settle(v * 2 ** exponent))]) {
      if (Math.abs(value) >= 2 ** 12) continue;
      const bias = biasOf(value, exponent);
      if (bitsBelow(value, exponent) <= 16) expect(bias, `${value}`).toBe(0);
      else expect(Math.abs(bias), `${value}`).toBeLessThanOrEqual(1);
    }
  });

  test('gives one of the two neighbours on the grid, and what is on it never changes', () => {
    for (let i = 0; i < 20_000; i++) {
      const [a, b] = threefry([1, 2], i, 0);
      const exponent = (a % 49) - 40;
      const value = settle(f32((b / 2 ** 31 - 1) * 2 ** (((a >>> 8) % 60) - 48)));
      const exact = value * 2 ** -exponent;
      const got = Number(roundToGrid(value, exponent, a >>> 16));
      expect(got, `${value} with E = ${exponent}`).toBeGreaterThanOrEqual(Math.floor(exact));
      expect(got, `${value} with E = ${exponent}`).toBeLessThanOrEqual(Math.ceil(exact));
    }
  });

  test('is symmetric', () => {
    for (let i = 0; i < 10_000; i++) {
      const [a, b] = threefry([3, 4], i, 0);
      const value = f32((b / 2 ** 32) * 2 ** (((a >>> 8) % 40) - 30));
      expect(roundToGrid(-value, (a % 49) - 40, a >>> 16)).toBe(-roundToGrid(value, (a % 49) - 40, a >>> 16));
    }
  });

  test('away from zero happens with the largest random numbers, in proportion to the rest', () => {
    expect(roundToGrid(0.25, 0, 0xbfff)).toBe(0n);
    expect(roundToGrid(0.25, 0, 0xc000)).toBe(1n);
    expect(roundToGrid(-2.75, 0, 0x3fff)).toBe(-2n);
    expect(roundToGrid(-2.75, 0, 0x4000)).toBe(-3n);
    // Fewer bits than 16 below the grid: the upper ones of the random number.
    expect(roundToGrid(2 ** 23 * 2 ** -12 + 2 ** -12, -11, 0x7fff)).toBe(2n ** 22n);
    expect(roundToGrid(2 ** 23 * 2 ** -12 + 2 ** -12, -11, 0x8000)).toBe(2n ** 22n + 1n);
  });

  test('on the finest grid is exact from 2^-17 on; the largest value has 52 bits', () => {
    for (const u of [0, 0xffff]) {
      expect(roundToGrid(2 ** -17 + 2 ** -40, -40, u)).toBe(2n ** 23n + 1n);
      expect(roundToGrid(LARGEST, -40, u)).toBe(2n ** 52n - 2n ** 28n);
      expect(roundToGrid(LARGEST, 8, u)).toBe(u === 0 ? 15n : 16n);
    }
  });

  test('of what is far below the grid gives zero, of denormals and of zero too', () => {
    for (const u of [0, 0xffff])
      for (const value of [0, -0, DENORMAL, -DENORMAL, 2 ** -90, f32(1.99 * 2 ** -57)])
        for (const exponent of [-40, 8]) expect(roundToGrid(value, exponent, u)).toBe(0n);
    expect(roundToGrid(2 ** -56, -40, 0xffff)).toBe(1n);
    expect(roundToGrid(2 ** -56, -40, 0xfffe)).toBe(0n);
  });

  test('of a sum comes back as a float32', () => {
    expect(gradientOf(3n, -40)).toBe(3 * 2 ** -40);
    expect(gradientOf(-3n, 8)).toBe(-768);
    expect(gradientOf(2n ** 24n + 1n, -10)).toBe(2 ** 14);
  });
});

describe('random bits', () => {
  test('are halves of the words of a block of Threefry: four values share one', () => {
    const key = deriveKey(5, Stream.rounding, 3);
    const [p0, p1] = threefry(key, 6, 250);
    const want = [p0 & 0xffff, p1 & 0xffff, p0 >>> 16, p1 >>> 16];
    expect([1000, 1001, 1002, 1003].map((flat) => randomOf(key, 6, flat))).toEqual(want);
    expect(randomOf(key, 7, 1000)).not.toBe(want[0]);
    expect(randomOf(key, 6, 0xfffffffe)).toBe(threefry(key, 6, 0x3fffffff)[0] >>> 16);
  });
});

describe('exponents of the grid', () => {
  const block = (value: number) => new Float32Array(64).fill(value);

  test('are half of the power of two of the mean, less one, as even roots demand', () => {
    // 64 v c = 2^e, by twos.
    const exponents = [-9, -8, -7, -6].map((e) => gridExponents(block(2 ** (e - 6)), 1)[0]);
    expect(exponents).toEqual([-5, -5, -4, -4]);
    expect(gridExponents(block(f32(1.99 * 2 ** -13)), 1)).toEqual([-5 + 1]);
  });

  test('have limits, and v = 0 has the least', () => {
    expect(gridExponents(block(0), 1)).toEqual([-40]);
    expect(gridExponents(block(2 ** -90), 1)).toEqual([-40]);
    expect(gridExponents(block(2 ** 30), 1)).toEqual([8]);
    expect(gridExponents(block(3e38), 1)).toEqual([8]);
    expect(gridExponents(block(2 ** -83), 1)).toEqual([-39]);
  });

  test('are of blocks of 64; what is missing of the last is zero', () => {
    const v = Float32Array.of(...block(2 ** -20), ...block(2 ** -30), 2 ** -14);
    expect(gridExponents(v, 1)).toEqual([-8, -13, -8]);
  });

  test('sum in float32: two pairs of four values, then one after another', () => {
    // A single 1 is lost when it is added to 2^24, and two at once are not. The factor tells 2^24 from 2^24 + 2.
    const factor = f32(2 ** -25 - 2 ** -49);
    const of = (...values: number[]) =>
      gridExponents(
        Float32Array.from({ length: 64 }, (_, i) => values[i] ?? 0),
        factor,
      );
    expect(of(2 ** 24)).toEqual([-2]);
    expect(of(2 ** 24, 0, 1, 1)).toEqual([-1]);
    expect(of(2 ** 24, 1, 1, 0)).toEqual([-2]);
    expect(of(2 ** 24, 0, 0, 0, 1, 0, 0, 0, 1)).toEqual([-2]);
    expect(of(2 ** 24, 0, 0, 0, 1, 1)).toEqual([-1]);
  });
});

describe('moves of weights', () => {
  test('are whole numbers, nearest to even, and never more than 3', () => {
    const unit = 2 ** -13;
    const moves = [0.5, 1.5, 2.5, -0.5, -1.5, 0.51, 3.4, 3.6, 1e9, -3.6, -1e9].map((d) => move(d * unit, 0, 1 / unit));
    expect(moves).toEqual([0, 2, 2, 0, -2, 1, 3, 3, 3, -3, -3]);
    for (const k of moves) expect(Object.is(k, -0)).toBe(false);
  });

  test('bring a weight within half a unit of what is wanted, as far as it is in reach', () => {
    const [s, w] = [noise(1000, 1, 0.1), noise(1000, 2, 3 * 2 ** -8)];
    for (const [i, weight] of s.entries()) {
      const wanted = f32(weight + w[i]);
      const next = moved(weight, move(wanted, weight, 2 ** 8), 2 ** -8);
      expect(Math.abs(next - wanted)).toBeLessThanOrEqual(2 ** -9 + 2 ** -26);
    }
  });

  test('are none where nothing is learned; a weight of nothing settles', () => {
    expect(move(1, -1, 0)).toBe(0);
    expect(moved(f32(0.1), 3, 0)).toBe(f32(0.1));
    expect(Object.is(moved(-(2 ** -60), 1, 2 ** -60), 0)).toBe(true);
  });
});

test('the expected squared rounding error has a term for each of four values that are not all zero', () => {
  const factor = f32(8 / 6);
  const n = 4096 + 128;
  const exponents = Array.from({ length: n / 64 }, (_, i) => [-3, -40, 8, 0][i % 4]);
  const gradients = new Float32Array(n);
  gradients.set([1, 0, 0, 0, 0, 0, 0, -1], 0);
  gradients.set([0, 0, 0, 0, 2 ** -40], 128);
  expect([...roundingErrors(gradients, exponents, factor)]).toEqual([f32(factor * (8 * 4 ** -3 + 4 * 4 ** 8)), 0]);
  gradients.fill(1);
  const want = factor * (16 * 64 * (4 ** -3 + 4 ** -40 + 4 ** 8 + 1));
  const [first, last] = roundingErrors(gradients, exponents, factor);
  expect(first / want).toBeCloseTo(1, 6);
  expect(last / (factor * 64 * (4 ** -3 + 4 ** -40))).toBeCloseTo(1, 6);
});
