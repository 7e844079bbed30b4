import * as fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { mostWords, packLoss, packSums } from '../../cluster/exchange/blocks.js';
import { payloadChecksum } from '../../cluster/exchange/checksum.js';
import { Reducer } from '../../cluster/reducer/reducer.js';
import { ReducerArena } from '../../cluster/reducer/reducer-arena.js';
import { unpackSums } from '../reference/blocks.js';
import { blocks, integersOf, type Words, wordsOf } from '../train/values.js';

const SIZES = [256 + 64, 64, 512 + 192];

const open: Reducer[] = [];
function reducer(sizes: readonly number[], threads: number): Reducer {
  const opened = new Reducer(sizes, { threads });
  open.push(opened);
  return opened;
}
afterEach(async () => {
  for (const opened of open.splice(0)) await opened.close();
});

const pack = ({ low, high }: Words) => packSums(low, high);
const all = (size: number, value: bigint) => pack(wordsOf(new Array(size).fill(value)));
const integers = (low: Uint32Array, high: Uint32Array) => integersOf({ low, high });
const wrapped = (sums: bigint[]) => sums.map((v) => BigInt.asIntN(64, v));

/** Large enough for any value: another test checks the bound. */
const TERMS = 2 ** 11;

const SLOTS = SIZES.map((size) => ({ size, low: false }));

describe('an arena', () => {
  test('an arena adds as the reference does, all widths, carries and signs', () => {
    const memory = ReducerArena.allocate(SLOTS);
    const arena = new ReducerArena(memory, SLOTS);
    const slot = 2;
    const { low, high } = ReducerArena.words(memory, SLOTS, slot);
    let sums = new Array<bigint>(SIZES[slot]).fill(0n);
    fc.assert(
      fc.property(blocks(SIZES[slot]), (words) => {
        expect(arena.add(slot, pack(words), TERMS)).toBeUndefined();
        sums = wrapped(sums.map((sum, i) => sum + integersOf(words)[i]));
        expect(integers(low, high)).toEqual(sums);
      }),
    );
    for (const other of [0, 1])
      expect(ReducerArena.words(memory, SLOTS, other).low).toEqual(new Uint32Array(SIZES[other]));
    arena.clear(slot);
    expect([...low, ...high].every((word) => word === 0)).toBe(true);
  });

  test('an arena carries from the low word into the high one and back', () => {
    const slot = { size: 64, low: false };
    const memory = ReducerArena.allocate([slot]);
    const arena = new ReducerArena(memory, [slot]);
    const { low, high } = ReducerArena.words(memory, [slot], 0);
    for (const value of [2n ** 32n - 1n, 1n, -1n, -(2n ** 32n), -1n, 127n, -(2n ** 39n), 2n ** 51n])
      expect(arena.add(0, all(64, value), TERMS)).toBeUndefined();
    expect(integers(low, high)).toEqual(new Array(64).fill(126n - 1n - 2n ** 39n + 2n ** 51n));
  });
});

describe('the reducer', () => {
  test('the sums of a reducer are the integers that came, in any order, from any number of threads', async () => {
    const contribution = fc
      .nat(SIZES.length - 1)
      .chain((bucket) => fc.tuple(fc.constant(bucket), blocks(SIZES[bucket])));
    for (const threads of [1, 2, 3]) {
      const sums = reducer(SIZES, threads);
      await fc.assert(
        fc.asyncProperty(fc.array(contribution, { maxLength: 12 }), async (contributions) => {
          const added = contributions.map(([bucket, words], i) =>
            sums.add(bucket, pack(words), TERMS, { owned: i % 2 === 0 }),
          );
          for (const outcome of await Promise.all(added)) expect(outcome).toBe('added');
          for (const [bucket, size] of SIZES.entries()) {
            const want = new Array<bigint>(size).fill(0n);
            for (const [of, words] of contributions)
              if (of === bucket) for (const [i, value] of integersOf(words).entries()) want[i] += value;
            expect(await sums.take(bucket, integers)).toEqual(wrapped(want));
          }
        }),
        { numRuns: 20 },
      );
    }
  });

  test("a reducer's take waits for what was added before, and is zero for what comes after", async () => {
    const sums = reducer(SIZES, 1);
    void sums.add(1, all(64, 5n), 1);
    void sums.add(1, all(64, 6n), 1);
    const first = sums.take(1, integers);
    void sums.add(1, all(64, 7n), 1);
    expect(await first).toEqual(new Array(64).fill(11n));
    expect(await sums.read(1, integers)).toEqual(new Array(64).fill(7n));
    sums.clear(1);
    expect(await sums.read(1, integers)).toEqual(new Array(64).fill(0n));
  });

  test('a contribution may be overwritten by its owner as soon as add returns', async () => {
    const sums = reducer(SIZES, 1);
    const packed = all(64, 300n);
    const added = sums.add(1, packed, 1);
    packed.fill(0);
    expect(await added).toBe('added');
    expect(await sums.take(1, integers)).toEqual(new Array(64).fill(300n));
  });

  test('a reducer takes contributions at any place of a buffer', async () => {
    const sums = reducer(SIZES, 1);
    const packed = all(64, -70000n);
    const frame = new Uint8Array(packed.length + 3);
    frame.set(packed, 3);
    expect(await sums.add(1, frame.subarray(3), 1, { owned: true })).toBe('added');
    expect(await sums.take(1, integers)).toEqual(new Array(64).fill(-70000n));
  });

  test('a reducer takes values up to the bound and refuses those beyond as a whole', async () => {
    const sums = reducer(SIZES, 1);
    for (const terms of [1, 3, 1024]) {
      const bound = BigInt(terms) * 2n ** 52n;
      for (const value of [bound, -bound]) expect(await sums.add(1, all(64, value), terms)).toBe('added');
      for (const value of [bound + 1n, -bound - 1n, 2n ** 63n - 1n, -(2n ** 63n)]) {
        const words = new Array<bigint>(64).fill(1n);
        words[63] = value;
        expect(await sums.add(1, pack(wordsOf(words)), terms)).toEqual({
          refused: expect.stringContaining('value 63'),
        });
      }
      expect(await sums.take(1, integers)).toEqual(new Array(64).fill(0n));
    }
  });

  test('a reducer refuses bytes that are not those of their checksum, and adds those that are', async () => {
    const sums = reducer(SIZES, 1);
    const packed = all(64, 300n);
    const checksum = payloadChecksum(packed);
    const damaged = packed.slice();
    // Changes a value, so that the bytes stay well formed.
    damaged[damaged.length - 1] ^= 1;
    expect(await sums.add(1, damaged, 1, { checksum })).toEqual({
      refused: 'its payload does not match its checksum',
    });
    expect(await sums.add(1, packed, 1, { checksum })).toBe('added');
    expect(await sums.take(1, integers)).toEqual(new Array(64).fill(300n));
  });

  test('a reducer refuses malformed contributions without touching the sums', async () => {
    const sums = reducer(SIZES, 1);
    const good = all(SIZES[0], 1000n);
    await sums.add(0, good, 1);
    const wide = good.slice();
    wide[16] = 7;
    const long = new Uint8Array(4 * mostWords(SIZES[0], 'sums') + 4);
    for (const bytes of [good.subarray(4), good.subarray(0, -4), new Uint8Array(), wide, long, all(64, 1n)])
      expect(await sums.add(0, bytes, 1)).toEqual({ refused: expect.stringContaining('malformed') });
    expect(await sums.take(0, integers)).toEqual(new Array(SIZES[0]).fill(1000n));
  });

  test('random damage is refused or adds what the reference unpacks', async () => {
    const sums = reducer([128], 1);
    const good = pack(wordsOf(Array.from({ length: 128 }, (_, i) => BigInt(i * i * i * 1000))));
    const edits = fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 3 });
    await fc.assert(
      fc.asyncProperty(edits, async (changes) => {
        const bytes = good.slice();
        for (const [at, byte] of changes) bytes[at] = byte;
        const added = await sums.add(0, bytes, TERMS);
        const got = await sums.take(0, integers);
        expect(got).toEqual(added === 'added' ? integersOf(unpackSums(bytes, 128)) : new Array(128).fill(0n));
      }),
    );
  });

  test('a loss of many tokens is within the bound of a reducer', async () => {
    const sums = reducer([64], 1);
    const tokens = 1024;
    expect(await sums.add(0, packLoss(BigInt(tokens) * 11n * 2n ** 40n), tokens)).toBe('added');
  });

  test('a reducer refuses buckets that do not exist', () => {
    const sums = reducer(SIZES, 1);
    expect(() => sums.add(3, all(64, 1n), 1)).toThrow(RangeError);
    expect(() => sums.take(-1, integers)).toThrow(RangeError);
  });

  test('a reducer that is closed says so to those who wait and those who come', async () => {
    const sums = new Reducer(SIZES, { threads: 1 });
    const waiting = sums.add(0, all(SIZES[0], 1n), 1).catch(String);
    await sums.close();
    expect(await waiting).toMatch(/closed|added/);
    await expect(sums.add(0, all(SIZES[0], 1n), 1)).rejects.toThrow('closed');
    await expect(sums.take(0, integers)).rejects.toThrow('closed');
  });
});
