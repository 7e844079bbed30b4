import * as fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { payloadChecksum, weightsChecksum } from '../../cluster/exchange/checksum.js';
import { LOW_WIDTHS } from '../../cluster/exchange/low-blocks.js';
import {
  advanceDispatch,
  LowSumPacker,
  movedChecksumDispatch,
  UpdatePacker,
} from '../../cluster/exchange/low-packing.js';
import { SumPacker, WeightChecks, WeightFollower } from '../../cluster/exchange/packing.js';
import { ReducerArena } from '../../cluster/reducer/reducer-arena.js';
import { GridArena } from '../../src/model/grid.js';
import { ParameterArena, ParameterLayout } from '../../src/model/layout.js';
import { ExactSums } from '../../src/model/sums.js';
import { GpuHarness } from '../gpu/harness.js';
import { MODEL } from '../model/harness.js';
import { nibbles, packLow, packLowSums, packUpdates } from '../reference/low-blocks.js';
import { allWidths, gridBytes, lowIntegers } from '../train/low-values.js';
import { integersOf, wordsOf } from '../train/values.js';

/** Many short slabs, so that buckets have all lengths, some with half a last block. */
const LIMITS = { windowValues: 4096, slabValues: 4096 };
const MOVE_WIDTHS = [0, 2, 3, 4];

let harness: GpuHarness;
beforeAll(async () => {
  harness = await GpuHarness.open();
});

const wordsIn = (bytes: Uint8Array) => new Uint32Array(bytes.slice().buffer);
const layoutOfMany = () => new ParameterLayout({ ...MODEL, width: 24, layers: 2 }, LIMITS);

describe('sums of the low wire packed on the GPU', () => {
  async function packerOf(values: number) {
    const [a, b] = [await harness.zeros(values), await harness.zeros(values)];
    const packer = await LowSumPacker.build(harness.kernels, values);
    const packing = await packer.prepare(a, b);
    return (integers: readonly bigint[], headroom = 0) => {
      const { low, high } = wordsOf(integers);
      harness.gpu.write(a, low);
      harness.gpu.write(b, high);
      return packer.pack(packing, headroom);
    };
  }

  test.each([64, 128, 192, 16 * 128 + 64])('they are the bytes that the reference packs, %i values', async (values) => {
    const pack = await packerOf(values);
    const all = allWidths(values);
    expect(await pack(all)).toEqual(packLow(all, [0, 0]));
    await fc.assert(
      fc.asyncProperty(lowIntegers(values), async (integers) => {
        expect(await pack(integers)).toEqual(packLow(integers, [0, 0]));
      }),
      { numRuns: 12 },
    );
  });

  test('they take the smallest width at each edge, in a whole block and in a half one', async () => {
    const pack = await packerOf(192);
    for (const width of LOW_WIDTHS) {
      if (width === 0) continue;
      const most = 2n ** BigInt(width - 1);
      for (const value of [most - 1n, -most, ...(width < 64 ? [most, -most - 1n] : [])])
        for (const place of [width % 128, 128 + (width % 64)]) {
          const integers = new Array<bigint>(192).fill(0n);
          integers[place] = value;
          expect(await pack(integers)).toEqual(packLow(integers, [0, 0]));
        }
    }
  });

  test.each([2 ** 20, 2 ** 20 - 64])('a whole bucket comes back from the reducer, %i values', async (size) => {
    const pack = await packerOf(size);
    const slots = [{ size, low: true }];
    const memory = ReducerArena.allocate(slots);
    const arena = new ReducerArena(memory, slots);
    const grid = gridBytes(size, [-40]);
    arena.setGrid(0, grid);
    const integers = allWidths(size);
    const packed = await pack(integers);
    const { a, b } = payloadChecksum(grid);
    new Uint32Array(packed.buffer).set([a, b], 2);
    expect(arena.add(0, packed, 2 ** 11)).toBeUndefined();
    const { low, high } = ReducerArena.words(memory, slots, 0);
    const want = wordsOf(integers);
    expect(Buffer.compare(Buffer.from(low), Buffer.from(want.low))).toBe(0);
    expect(integersOf({ low, high }).findIndex((value, i) => value !== integers[i])).toBe(-1);
  });

  test('packed sums of many buckets at once are those of each, with the check of its grid, behind a header', async () => {
    const layout = layoutOfMany();
    const grid = await GridArena.allocate(harness.gpu, layout);
    const sums = await ExactSums.allocate(harness.gpu, layout, grid);
    const packer = await SumPacker.build(harness.kernels, sums);
    expect(new Set(packer.buckets.map((b) => b.size % 128)).size).toBe(2);
    const all = packer.buckets.map(({ slab, offset, size }, i) => {
      const integers = allWidths(size + 128 * i).slice(128 * i);
      const { low, high } = wordsOf(integers);
      harness.gpu.write(sums.low.range(slab, offset, size), low);
      harness.gpu.write(sums.high.range(slab, offset, size), high);
      return { integers, grid: gridBytes(size, [-40 + (i % 48)]) };
    });
    await expect(packer.pack(0)).rejects.toThrow(RangeError);
    all.forEach((bucket, i) => {
      packer.setCheck(i, payloadChecksum(bucket.grid));
    });
    const packed = await Promise.all(packer.buckets.map((_, i) => packer.pack(i, 168)));
    packed.forEach((bytes, i) => {
      expect(bytes.slice(168)).toEqual(packLowSums(all[i].integers, all[i].grid));
      expect(bytes.subarray(0, 168)).toEqual(new Uint8Array(168));
    });
  });
});

/** Weights of about the size of trained ones, with zeros of both signs and some that moves bring near zero. */
function weightsOf(values: number, exponent: number): Float32Array {
  const unit = 2 ** exponent;
  return Float32Array.from({ length: values }, (_, v) => {
    const about = Math.sin(v + 1) / (1 + (v % 7));
    return [about, 0, -0, (v % 9) * unit, -3.5 * unit, 1e-35][v % 6];
  });
}

/** The bits of settle(s + k * 2^exponent). The sum of two float32 in float64, rounded once more, is that in float32. */
function movedBits(s: Float32Array, moves: readonly number[], exponent: number, portable: boolean): Uint32Array {
  const after = Float32Array.from(s, (w, v) => {
    const sum = Math.fround(w + moves[v] * 2 ** exponent);
    return portable && Math.abs(sum) < 2 ** -100 ? 0 : sum;
  });
  return new Uint32Array(after.buffer);
}

const movesOf = (values: number) => allWidths(values, [4, 3, 0, 2, 2, 4]).map(Number);

describe.each([true, false])('updates of the low wire, portable: %s', (portable) => {
  async function owner(values: number) {
    const s = await harness.zeros(values);
    const moves = await harness.zeros(values / 8);
    const grid = await harness.zeros(Math.ceil(values / 256));
    const unit = await harness.gpu.uniform('unit', 4);
    const packer = await UpdatePacker.build(harness.kernels, values, portable);
    const packing = await packer.prepare(moves, grid, s, unit);
    const write = (weights: Float32Array, k: readonly number[], bytes: Uint8Array, exponent: number) => {
      harness.gpu.write(s, weights);
      harness.gpu.write(moves, nibbles(k));
      harness.gpu.write(grid, wordsIn(bytes));
      harness.gpu.write(unit, Float32Array.of(2 ** exponent));
    };
    const pack = (headroom = 0) => packer.pack(packing, headroom);
    return { s, moves, unit, packer, write, pack };
  }

  test.each([64, 192, 320, 16 * 128 + 64])('they are the bytes that the reference packs, %i values', async (values) => {
    const { write, pack } = await owner(values);
    const grid = gridBytes(values, [-40, 8, -3], true);
    await fc.assert(
      fc.asyncProperty(
        lowIntegers(values, MOVE_WIDTHS),
        fc.integer({ min: -60, max: 0 }),
        async (integers, exponent) => {
          const moves = integers.map(Number);
          const weights = weightsOf(values, exponent);
          write(weights, moves, grid, exponent);
          expect(await pack()).toEqual(packUpdates(moves, grid, movedBits(weights, moves, exponent, portable)));
        },
      ),
      { numRuns: 15 },
    );
  });

  test('they take the smallest width at each edge', async () => {
    const { write, pack } = await owner(192);
    const weights = new Float32Array(192).fill(1);
    const grid = gridBytes(192, [0]);
    for (let move = -8; move < 8; move++)
      for (const place of [0, 70, 127, 128, 191]) {
        const moves = new Array<number>(192).fill(0);
        moves[place] = move;
        write(weights, moves, grid, -10);
        expect(await pack(20)).toEqual(
          Uint8Array.of(...new Uint8Array(20), ...packUpdates(moves, grid, movedBits(weights, moves, -10, portable))),
        );
      }
  });

  test('advanced weights have the bits and the checksum that were packed', async () => {
    for (const values of [64, 2 ** 16 + 64]) {
      const { s, moves: view, unit, write } = await owner(values);
      const moves = movesOf(values);
      for (const exponent of [-60, -23, -9, 0]) {
        const weights = weightsOf(values, exponent);
        const want = movedBits(weights, moves, exponent, portable);
        write(weights, moves, gridBytes(values, [0]), exponent);
        const sums = await harness.put(new Uint32Array(4));
        await harness.run(movedChecksumDispatch({ s, moves: view, unit }, sums, 1, portable));
        const { a, b } = weightsChecksum(want);
        expect([...(await harness.words(sums))]).toEqual([0, a, b, 0]);
        await harness.run(advanceDispatch({ s, moves: view, unit }, portable));
        expect(await harness.words(s)).toEqual(want);
      }
      // A learning rate of 0 gives units of 0, and no moves.
      const [still, weights] = [new Array<number>(values).fill(0), weightsOf(values, -9)];
      write(weights, still, gridBytes(values, [0]), Number.NEGATIVE_INFINITY);
      await harness.run(advanceDispatch({ s, moves: view, unit }, portable));
      expect(await harness.words(s)).toEqual(movedBits(weights, still, 0, portable));
    }
  });

  async function follower() {
    const layout = layoutOfMany();
    const grid = await GridArena.allocate(harness.gpu, layout);
    const weights = await ParameterArena.allocate(harness.gpu, layout, 'weights');
    const follows = await WeightFollower.build(harness.kernels, weights, { grid, portable });
    const checks = await WeightChecks.build(harness.kernels, weights);
    const at = async (bucket: number) => {
      const { slab, offset, size } = follows.buckets[bucket];
      const [s, bytes] = [weights.range(slab, offset, size), grid.range(slab, offset, size)];
      return { weights: await harness.words(s), grid: new Uint8Array((await harness.words(bytes)).buffer) };
    };
    return { follows, checks, at };
  }

  const wholeOf = (weights: Float32Array, grid: Uint8Array) =>
    Uint8Array.of(...new Uint8Array(weights.buffer), ...grid);

  test('updates of all buckets, queued one after the other, give each its weights and its grid', async () => {
    const { follows, checks, at } = await follower();
    const all = follows.buckets.map(({ size }, i) => {
      const exponent = -5 - i;
      const weights = weightsOf(size, exponent);
      const moves = movesOf(size);
      const [before, grid] = [gridBytes(size, [-40]), gridBytes(size, [-i % 40, 8], i % 2 === 0)];
      follows.load(i, wholeOf(weights, before));
      expect(follows.gridChecks(i)).toEqual(payloadChecksum(before));
      const want = movedBits(weights, moves, exponent, portable);
      return { exponent, moves, grid, want };
    });
    for (const [i, { exponent, moves, grid, want }] of all.entries()) {
      expect(follows.apply(i, packUpdates(moves, grid, want), exponent)).toEqual(weightsChecksum(want));
      expect(follows.gridChecks(i)).toEqual(payloadChecksum(grid));
    }
    const sums = await checks.read();
    for (const [i, { grid, want }] of all.entries()) {
      expect(await at(i)).toEqual({ weights: want, grid });
      expect(sums[i]).toEqual(weightsChecksum(want));
    }
  });

  test('updates in wider blocks than needed give the same weights, and the lowest move is -8', async () => {
    const { follows, at } = await follower();
    const bucket = follows.buckets.findIndex(({ size }) => size > 1024 && size % 128 !== 0);
    const { size } = follows.buckets[bucket];
    const weights = weightsOf(size, -12);
    for (const [code, moves] of [
      [1, allWidths(size, [2])],
      [2, allWidths(size, [2])],
      [2, allWidths(size, [3])],
      [3, allWidths(size, [2])],
      [3, allWidths(size, [4])],
      [3, allWidths(size, [0])],
    ] as const) {
      const k = moves.map(Number);
      const want = movedBits(weights, k, -12, portable);
      follows.load(bucket, wholeOf(weights, gridBytes(size, [0])));
      follows.apply(bucket, packUpdates(k, gridBytes(size, [1]), want, new Array(size).fill(code)), -12);
      expect((await at(bucket)).weights).toEqual(want);
    }
  });

  test('malformed updates and whole weights change nothing', async () => {
    const { follows, at } = await follower();
    const { size } = follows.buckets[0];
    const CODE = expect.objectContaining({ code: 'LT_CLUSTER_FRAME' });
    expect(() => follows.gridChecks(0)).toThrow(RangeError);
    const weights = new Float32Array(size).fill(0.5);
    const grid = gridBytes(size, [-7]);
    follows.load(0, wholeOf(weights, grid));
    const good = packUpdates(new Array(size).fill(1), gridBytes(size, [2]), new Uint32Array(size));
    const badGrid = packUpdates(new Array(size).fill(1), gridBytes(size, [9]), new Uint32Array(size));
    for (const bytes of [good.subarray(4), good.subarray(0, -4), badGrid])
      expect(() => follows.apply(0, bytes, 0)).toThrow(CODE);
    for (const bytes of [
      wholeOf(weights, grid).subarray(4),
      new Uint8Array(weights.buffer),
      wholeOf(new Float32Array(size), gridBytes(size, [9])),
    ])
      expect(() => follows.load(0, bytes)).toThrow(CODE);
    expect(await at(0)).toEqual({ weights: new Uint32Array(weights.buffer), grid });
    expect(follows.gridChecks(0)).toEqual(payloadChecksum(grid));
  });
});
