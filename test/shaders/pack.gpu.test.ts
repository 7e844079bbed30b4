import * as fc from 'fast-check';
import { beforeAll, describe, expect, test } from 'vitest';
import { blockLayout, packSums } from '../../cluster/exchange/blocks.js';
import { weightsChecksum } from '../../cluster/exchange/checksum.js';
import { BlockPacker, SumPacker, WeightChecks, WeightFollower } from '../../cluster/exchange/packing.js';
import { slice, type View } from '../../src/gpu/view.js';
import { ParameterArena, ParameterLayout } from '../../src/model/layout.js';
import { ExactSums } from '../../src/model/sums.js';
import { GpuHarness } from '../gpu/harness.js';
import { MODEL } from '../model/harness.js';
import { packDifferences } from '../reference/blocks.js';
import { blocks, SPECIAL_BITS, type Words, weightPairs, wordsOf } from '../train/values.js';

/** Many short slabs, so that buckets have all lengths, mostly no whole number of blocks. */
const LIMITS = { windowValues: 4096, slabValues: 4096 };

let harness: GpuHarness;
beforeAll(async () => {
  harness = await GpuHarness.open();
});

/** Two buffers of `values` and the packer between them. */
async function pair(kind: 'sums' | 'differences', values: number) {
  const [a, b] = [await harness.zeros(values), await harness.zeros(values)];
  const packer = await BlockPacker.build(harness.kernels, kind, values);
  const packing = await packer.prepare(a, b);
  const pack = (x: Uint32Array, y: Uint32Array) => {
    harness.gpu.write(a, x);
    harness.gpu.write(b, y);
    return packer.pack(packing);
  };
  return { packer, packing, pack };
}

/** A bucket of integers of all widths, whose last block is short. */
function longBucket(values: number): Words {
  const widths = [0, 1, 2, 3, 3, 4, 5, 8, 0, 3];
  return wordsOf(
    Array.from({ length: values }, (_, i) => {
      const width = widths[Math.floor(i / 256) % widths.length];
      if (width === 0) return 0n;
      const most = 2n ** BigInt(8 * width - 1);
      return (BigInt(i) * 0x9e3779b97f4a7c15n) % most;
    }),
  );
}

describe('sums packed on the GPU', () => {
  test.each([64, 256, 320, 9 * 256 + 192])(
    'sums packed on the GPU are the bytes that the host packs, %i values',
    async (values) => {
      const { pack } = await pair('sums', values);
      await fc.assert(
        fc.asyncProperty(blocks(values), async ({ low, high }) => {
          expect(await pack(low, high)).toEqual(packSums(low, high));
        }),
        { numRuns: 30 },
      );
    },
  );

  test.each([2 ** 20, 2 ** 20 - 64])(
    'sums of a whole bucket are packed as the host packs them, %i values',
    async (values) => {
      const { pack } = await pair('sums', values);
      const { low, high } = longBucket(values);
      expect(Buffer.compare(await pack(low, high), packSums(low, high))).toBe(0);
    },
  );

  test('sums packed on the GPU take the smallest width at each edge', async () => {
    const { pack } = await pair('sums', 64);
    for (const width of [1, 2, 3, 4, 5]) {
      const most = 2n ** BigInt(8 * width - 1);
      for (const value of [most - 1n, -most, most, -most - 1n]) {
        const { low, high } = wordsOf([...new Array(63).fill(0n), value]);
        expect(await pack(low, high)).toEqual(packSums(low, high));
      }
    }
  });

  test('packed sums come whole when there are suddenly more than the last time', async () => {
    const values = 2 ** 16;
    const { pack } = await pair('sums', values);
    const zero = new Uint32Array(values);
    const full = new Uint32Array(values).fill(0x40000001);
    expect((await pack(zero, zero)).length).toBe(packSums(zero, zero).length);
    expect((await pack(zero, zero)).length).toBe(packSums(zero, zero).length);
    for (const [low, high] of [
      [full, full],
      [zero, zero],
      [full, zero],
    ])
      expect(Buffer.compare(await pack(low, high), packSums(low, high))).toBe(0);
  });

  test('sums packed on the GPU leave room for a header', async () => {
    const { packer, packing, pack } = await pair('sums', 128);
    const { low, high } = longBucket(128);
    await pack(low, high);
    const framed = await packer.pack(packing, 20);
    expect(framed.subarray(0, 20)).toEqual(new Uint8Array(20));
    expect(framed.slice(20)).toEqual(packSums(low, high));
  });

  test('packed sums of many buckets at once, in slabs of odd sizes, are those of each; clearing one leaves the others', async () => {
    const layout = new ParameterLayout({ ...MODEL, width: 24, layers: 2 }, LIMITS);
    const sums = await ExactSums.allocate(harness.gpu, layout);
    const packer = await SumPacker.build(harness.kernels, sums);
    expect(packer.buckets.length).toBeGreaterThan(5);
    expect(new Set(packer.buckets.map((b) => b.size % 256)).size).toBeGreaterThan(2);
    const words = packer.buckets.map(({ size }, i) => {
      const { low, high } = longBucket(size + 256 * i);
      return { low: low.slice(256 * i), high: high.slice(256 * i) };
    });
    packer.buckets.forEach(({ slab, offset, size }, i) => {
      harness.gpu.write(sums.low.range(slab, offset, size), words[i].low);
      harness.gpu.write(sums.high.range(slab, offset, size), words[i].high);
    });
    const packed = await Promise.all(packer.buckets.map((_, i) => packer.pack(i)));
    packed.forEach((bytes, i) => {
      expect(bytes).toEqual(packSums(words[i].low, words[i].high));
    });
    const { slab, offset, size } = packer.buckets[2];
    const zero = new Uint32Array(size);
    for (const arena of [sums.low, sums.high]) harness.gpu.write(arena.range(slab, offset, size), zero);
    expect(await packer.pack(2)).toEqual(packSums(zero, zero));
    for (const other of [1, 3]) expect(await packer.pack(other)).toEqual(packed[other]);
  });
});

describe('differences of weights', () => {
  test.each([64, 5 * 256 + 128])(
    'differences of weights are packed on the GPU as the host does, checksum included, %i values',
    async (values) => {
      const { pack } = await pair('differences', values);
      await fc.assert(
        fc.asyncProperty(weightPairs(values), async ({ before, after }) => {
          expect(await pack(before, after)).toEqual(packDifferences(before, after));
        }),
        { numRuns: 30 },
      );
    },
  );

  async function follower() {
    const layout = new ParameterLayout({ ...MODEL, width: 24, layers: 2 }, LIMITS);
    const weights = await ParameterArena.allocate(harness.gpu, layout, 'weights');
    const follows = await WeightFollower.build(harness.kernels, weights);
    const checks = await WeightChecks.build(harness.kernels, weights);
    const view = ({ slab, offset, size }: (typeof follows.buckets)[number]): View => weights.range(slab, offset, size);
    return { follows, checks, view };
  }

  test('differences of weights applied on the GPU give the bits that were packed, and their checksum', async () => {
    const { follows, checks, view } = await follower();
    const bucket = follows.buckets.findIndex(({ size }) => size > 1024 && size % 256 !== 0);
    const where = view(follows.buckets[bucket]);
    await fc.assert(
      fc.asyncProperty(weightPairs(follows.buckets[bucket].size), async ({ before, after }) => {
        follows.load(bucket, new Uint8Array(before.buffer));
        expect(await harness.words(where)).toEqual(before);
        const expected = follows.apply(bucket, packDifferences(before, after));
        expect(await harness.words(where)).toEqual(after);
        expect((await checks.read())[bucket]).toEqual(expected);
      }),
      { numRuns: 30 },
    );
  });

  test('differences of weights lead from each special float to each other', async () => {
    const { follows, view } = await follower();
    const where = view(follows.buckets[0]);
    const size = follows.buckets[0].size;
    const after = Uint32Array.from({ length: size }, (_, i) => SPECIAL_BITS[i % SPECIAL_BITS.length]);
    const before = new Uint32Array(size);
    for (const from of SPECIAL_BITS) {
      before.fill(from);
      follows.load(0, new Uint8Array(before.buffer));
      follows.apply(0, packDifferences(before, after));
      expect(await harness.words(where)).toEqual(after);
    }
  });

  test('differences of all buckets, queued one after the other, reach each its own', async () => {
    const { follows, checks, view } = await follower();
    const after = follows.buckets.map(({ size }, i) => Uint32Array.from({ length: size }, (_, k) => (k * i) % 70001));
    after.forEach((bits, i) => {
      follows.apply(i, packDifferences(new Uint32Array(bits.length), bits));
    });
    const sums = await checks.read();
    for (const [i, bits] of after.entries()) {
      expect(await harness.words(view(follows.buckets[i]))).toEqual(bits);
      expect(sums[i]).toEqual(weightsChecksum(bits));
    }
  });

  test('differences of weights change nothing when they are malformed', async () => {
    const { follows, view } = await follower();
    const bits = new Uint32Array(follows.buckets[0].size).fill(5);
    const packed = packDifferences(new Uint32Array(bits.length), bits);
    const where = view(follows.buckets[0]);
    for (const bytes of [packed.subarray(4), packed.subarray(0, -4), new Uint8Array(0)]) {
      expect(() => follows.apply(0, bytes)).toThrow(expect.objectContaining({ code: 'LT_CLUSTER_FRAME' }));
      expect(() => follows.load(0, bytes)).toThrow(expect.objectContaining({ code: 'LT_CLUSTER_FRAME' }));
    }
    expect(await harness.words(where)).toEqual(new Uint32Array(bits.length));
  });

  test('differences of weights come with the checksum of a whole bucket', async () => {
    const values = 2 ** 20 - 64;
    const { pack } = await pair('differences', values);
    const { low: before, high: after } = longBucket(values);
    const packed = await pack(before, after);
    expect(Buffer.compare(packed, packDifferences(before, after))).toBe(0);
    expect(blockLayout(packed, values, 'differences').checksum).toEqual(weightsChecksum(after));
  });
});

test('reads of the GPU that overlap get each its own bytes', async () => {
  const view = await harness.put(Uint32Array.from({ length: 1024 }, (_, i) => i));
  const reads = Array.from({ length: 8 }, (_, i) => harness.gpu.read(slice(view, 64 * i, 64)));
  const starts = (await Promise.all(reads)).map((bytes) => new Uint32Array(bytes)[0]);
  expect(starts).toEqual([0, 64, 128, 192, 256, 320, 384, 448]);
});
