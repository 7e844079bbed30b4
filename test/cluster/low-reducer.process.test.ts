import { createHash } from 'node:crypto';
import * as fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { packLoss } from '../../cluster/exchange/blocks.js';
import { payloadChecksum } from '../../cluster/exchange/checksum.js';
import { LOW_WIDTHS, lowHeadWords, mostLowWords } from '../../cluster/exchange/low-blocks.js';
import { Reducer } from '../../cluster/reducer/reducer.js';
import { packLow, packLowSums } from '../reference/low-blocks.js';
import { allWidths, gridBytes, lowIntegers } from '../train/low-values.js';
import { integersOf } from '../train/values.js';

/** Buckets with half a last block, a half block alone, whole blocks, and the loss. */
const SIZES = [16 * 128 + 64, 64, 256, 64];
const LOSS = SIZES.length - 1;
/** A value of any width is within the bound. */
const FINE = SIZES.map((size) => gridBytes(size, [-40]));
const TERMS = 2 ** 11;

const open: Reducer[] = [];
function reducer(threads = 1): Reducer {
  const opened = new Reducer(SIZES, { wire: 'low', threads });
  open.push(opened);
  for (let bucket = 0; bucket < LOSS; bucket++) opened.setGrid(bucket, FINE[bucket]);
  return opened;
}
afterEach(async () => {
  for (const opened of open.splice(0)) await opened.close();
});

const integers = (low: Uint32Array, high: Uint32Array) => integersOf({ low, high });
const wrapped = (sums: bigint[]) => sums.map((v) => BigInt.asIntN(64, v));
const pack = (bucket: number, values: readonly bigint[]) => packLowSums(values, FINE[bucket]);
const filled = (bucket: number, value: bigint) => new Array<bigint>(SIZES[bucket]).fill(value);

describe('the reducer of the low wire', () => {
  test('the first contribution and later ones give the integers of every width, in all of their places', async () => {
    const sums = reducer();
    const values = allWidths(SIZES[0]);
    for (let round = 1; round < 4; round++) {
      // Of the second step: what the first left in memory is gone.
      for (let step = 0; step < 2; step++) {
        for (let times = 0; times < round; times++) expect(await sums.add(0, pack(0, values), TERMS)).toBe('added');
        expect(await sums.take(0, integers)).toEqual(wrapped(values.map((v) => BigInt(round) * v)));
      }
      for (const code of LOW_WIDTHS.keys()) {
        if (code === 0) continue;
        const wide = packLow(filled(1, -1n), [...checkOf(FINE[1])], [code]);
        for (let times = 0; times < round; times++) expect(await sums.add(1, wide, TERMS)).toBe('added');
        expect(await sums.take(1, integers)).toEqual(filled(1, BigInt(-round)));
      }
    }
  });

  test('the sums are the integers that came, in any order, from any number of threads', async () => {
    const contribution = fc.nat(LOSS - 1).chain((bucket) => fc.tuple(fc.constant(bucket), lowIntegers(SIZES[bucket])));
    for (const threads of [1, 2, 3]) {
      const sums = reducer(threads);
      await fc.assert(
        fc.asyncProperty(fc.array(contribution, { maxLength: 8 }), async (contributions) => {
          const added = contributions.map(([bucket, values], i) =>
            sums.add(bucket, pack(bucket, values), TERMS, { owned: i % 2 === 0 }),
          );
          for (const outcome of await Promise.all(added)) expect(outcome).toBe('added');
          for (let bucket = 0; bucket < LOSS; bucket++) {
            const want = filled(bucket, 0n);
            for (const [of, values] of contributions)
              if (of === bucket) for (const [i, value] of values.entries()) want[i] += value;
            expect(await sums.take(bucket, integers)).toEqual(wrapped(want));
          }
        }),
        { numRuns: 10 },
      );
    }
  });

  test('sums carry from the low word into the high one and back', async () => {
    const sums = reducer();
    for (const value of [2n ** 32n - 1n, 1n, -1n, -(2n ** 32n), -1n, 127n, -(2n ** 39n), 2n ** 51n, -3n])
      expect(await sums.add(2, pack(2, filled(2, value)), TERMS)).toBe('added');
    expect(await sums.take(2, integers)).toEqual(filled(2, 126n - 4n - 2n ** 39n + 2n ** 51n));
  });

  test('a bucket that was cleared is zero until something is added, whatever was refused meanwhile', async () => {
    const sums = reducer();
    await sums.add(2, pack(2, filled(2, 9n)), TERMS);
    sums.clear(2);
    expect(await sums.add(2, pack(2, filled(2, 9n)).subarray(4), TERMS)).not.toBe('added');
    expect(await sums.read(2, integers)).toEqual(filled(2, 0n));
    sums.clear(2);
    expect(await sums.add(2, pack(2, filled(2, 9n)).subarray(4), TERMS)).not.toBe('added');
    await sums.add(2, pack(2, filled(2, 0n)), TERMS);
    await sums.add(2, pack(2, filled(2, -2n)), TERMS);
    expect(await sums.take(2, integers)).toEqual(filled(2, -2n));
  });

  test('the loss keeps the exact format', async () => {
    const sums = reducer();
    expect(await sums.add(LOSS, packLoss(12345n), 1)).toBe('added');
    expect((await sums.take(LOSS, integers))[0]).toBe(12345n);
    expect(await sums.add(LOSS, packLow(filled(LOSS, 1n), [0, 0]), 1)).toEqual({ refused: expect.any(String) });
    expect(() => sums.setGrid(LOSS, gridBytes(64, [0]))).toThrow(RangeError);
    expect(() => sums.setGrid(0, FINE[0].subarray(4))).toThrow(RangeError);
  });

  test('what a half block has beyond the values harms nothing', async () => {
    const sums = reducer();
    const packed = packLow(filled(1, 3n), [...checkOf(FINE[1])], [15]);
    new Uint32Array(packed.buffer).subarray(lowHeadWords(64, 'sums')).forEach((word, i, block) => {
      if (i % 128 >= 64) block[i] = word ^ 0x7eadbeef;
    });
    for (let times = 0; times < 3; times++) expect(await sums.add(1, packed, 1)).toBe('added');
    expect(await sums.take(1, integers)).toEqual(filled(1, 9n));
    for (const bucket of [0, 2]) expect(await sums.take(bucket, integers)).toEqual(filled(bucket, 0n));
  });

  test.each([
    [1, 8],
    [3, 8],
    [1024, 8],
    [1, 0],
    [5, -20],
    [7, -19],
    [1, -40],
    [1024, -40],
  ])('%i values of the exponent %i are taken up to the bound and refused beyond it', async (terms, exponent) => {
    const sums = reducer();
    const bound = BigInt(terms) * 2n ** BigInt(12 - exponent);
    // The other half of each block of 128 allows more or less. Some places begin in one word of a stream and end in the next.
    const other = exponent === -40 ? 8 : -40;
    for (const [grid, places] of [
      [gridBytes(SIZES[0], [exponent, other]), [0, 8, 17, 20, 63, 128 + 5, SIZES[0] - 1]],
      [gridBytes(SIZES[0], [other, exponent]), [64, 72, 127, 192]],
    ] as const) {
      sums.setGrid(0, grid);
      for (const place of places) {
        const at = (value: bigint) => {
          const values = filled(0, 0n);
          values[place] = value;
          return packLowSums(values, grid);
        };
        for (const value of [bound, -bound]) expect(await sums.add(0, at(value), terms)).toBe('added');
        for (const value of [bound + 1n, -bound - 1n, 2n ** 63n - 1n, -(2n ** 63n)])
          expect(await sums.add(0, at(value), terms)).toEqual({
            refused: `value ${place} exceeds what ${terms} gradients can add up to`,
          });
      }
    }
    expect(await sums.take(0, integers)).toEqual(filled(0, 0n));
  });

  test('contributions in units of another grid are refused, and those that are malformed', async () => {
    const sums = reducer();
    const good = pack(0, filled(0, 5n));
    const [a, b] = checkOf(FINE[0]);
    const otherGrid = { refused: 'its sums are in units of another grid' };
    await sums.add(0, good, 1);
    for (const [bytes, reason] of [
      [packLow(filled(0, 5n), [a + 1, b]), otherGrid],
      [packLow(filled(0, 5n), [a, b + 1]), otherGrid],
      [packLow(filled(0, 5n), [0, 0]), otherGrid],
      [packLowSums(filled(0, 5n), gridBytes(SIZES[0], [-39])), otherGrid],
      [good.subarray(4), { refused: expect.stringContaining('malformed blocks') }],
      [good.subarray(0, -4), { refused: expect.stringContaining('malformed blocks') }],
      [new Uint8Array(), { refused: expect.stringContaining('malformed blocks') }],
      [pack(1, filled(1, 5n)), { refused: expect.stringContaining('malformed blocks') }],
      [new Uint8Array(4 * mostLowWords(SIZES[0], 'sums') + 4), { refused: expect.stringContaining('more bytes') }],
    ] as const)
      expect(await sums.add(0, bytes, 1)).toEqual(reason);
    const damaged = good.slice();
    damaged[damaged.length - 1] ^= 1;
    expect(await sums.add(0, damaged, 1, { checksum: payloadChecksum(good) })).toEqual({
      refused: 'its payload does not match its checksum',
    });
    expect(await sums.take(0, integers)).toEqual(filled(0, 5n));
    sums.setGrid(0, gridBytes(SIZES[0], [-39]));
    expect(await sums.add(0, good, 1)).toEqual(otherGrid);
    expect(await sums.add(0, packLowSums(filled(0, 6n), gridBytes(SIZES[0], [-39])), 1)).toBe('added');
  });

  test('a reducer that knows no grid takes nothing', async () => {
    const sums = new Reducer(SIZES, { wire: 'low', threads: 1 });
    open.push(sums);
    expect(await sums.add(0, pack(0, filled(0, 5n)), 1)).toEqual({ refused: expect.stringContaining('another grid') });
  });
});

describe('digests in the threads of a reducer', () => {
  test.each(['exact', 'low'] as const)('a payload keeps its bytes and gets its SHA-256, %s', async (wire) => {
    const sums = new Reducer(SIZES, { wire, threads: 2 });
    open.push(sums);
    const payloads = Array.from({ length: 5 }, (_, i) => new Uint8Array(4 * (i * 1000 + 1)).fill(i + 1));
    const digests = payloads.map((bytes) => sums.digest(bytes, payloadChecksum(bytes)));
    for (const [i, bytes] of payloads.entries()) {
      expect(bytes.length).toBe(4 * (i * 1000 + 1));
      expect(await digests[i]).toBe(createHash('sha256').update(bytes).digest('hex'));
    }
    const [bytes] = payloads;
    const { a, b } = payloadChecksum(bytes);
    expect(await sums.digest(bytes, { a: a + 1, b })).toBeUndefined();
    expect(await sums.digest(bytes, { a, b: b + 1 })).toBeUndefined();
    await sums.close();
    await expect(sums.digest(bytes, { a, b })).rejects.toThrow('closed');
  });
});

function checkOf(grid: Uint8Array): readonly [number, number] {
  const { a, b } = payloadChecksum(grid);
  return [a, b];
}
