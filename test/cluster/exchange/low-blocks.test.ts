import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { payloadChecksum } from '../../../cluster/exchange/checksum.js';
import {
  checkGridBytes,
  LOW_WIDTHS,
  lowCodesAt,
  lowHeadWords,
  lowLayout,
  mostLowWords,
} from '../../../cluster/exchange/low-blocks.js';
import { packLow, packLowSums, packUpdates, unpackLow } from '../../reference/low-blocks.js';
import { gridBytes, lowIntegers } from '../../train/low-values.js';

const CODE = expect.objectContaining({
  code: 'LT_CLUSTER_FRAME',
  message: expect.stringMatching(/^malformed blocks: /),
});
const MOVES = [0, 2, 3, 4];

describe('blocks of the low wire', () => {
  test.each([64, 128, 192, 1024, 1024 + 64])('sums come back as they were packed, %i values', (values) => {
    fc.assert(
      fc.property(lowIntegers(values), (integers) => {
        const grid = gridBytes(values, [-20, 8, -40]);
        const packed = packLowSums(integers, grid);
        expect(unpackLow(packed, values, 'sums')).toEqual(integers);
        expect(packed.length / 4).toBeLessThanOrEqual(mostLowWords(values, 'sums'));
        expect(lowLayout(packed, values, 'sums').checksum).toEqual(payloadChecksum(grid));
      }),
      { numRuns: 20 },
    );
  });

  test.each([64, 320, 1024 + 64])('updates come back as they were packed, with the next grid, %i values', (values) => {
    fc.assert(
      fc.property(lowIntegers(values, MOVES), (integers) => {
        const grid = gridBytes(values, [-7, -9, 3], true);
        const packed = packUpdates(integers.map(Number), grid, new Uint32Array(values));
        expect(unpackLow(packed, values, 'updates')).toEqual(integers);
        expect(lowLayout(packed, values, 'updates').grid).toEqual(grid);
        expect(packed.length / 4).toBeLessThanOrEqual(mostLowWords(values, 'updates'));
      }),
      { numRuns: 20 },
    );
  });

  test('a block is four streams of bits, as the format draws it', () => {
    const values = new Array<bigint>(128).fill(0n);
    // The sixth value of stream 0 crosses from its first word into its second; the last one of stream 3 is the last of all.
    values[4 * 6] = -11n;
    values[127] = 15n;
    const words = new Uint32Array(packLow(values, [1, 2]).buffer);
    expect([...words.subarray(0, 5)]).toEqual([5 + 20, 128, 1, 2, 4]);
    const block = new Array<number>(20).fill(0);
    block[0] = (-11 << 30) >>> 0;
    block[4] = (-11 & 31) >> 2;
    block[19] = (15 << 27) >>> 0;
    expect([...words.subarray(5)]).toEqual(block);
    values[1] = -(2n ** 63n);
    const wide = new Uint32Array(packLow(values, [0, 0]).buffer).subarray(5);
    expect([wide.length, wide[127], wide[1], wide[129], wide[128 + 24]]).toEqual([256, 15, 0, 2 ** 31, 2 ** 32 - 1]);
  });

  test('codes stand for the widths that peers know', () => {
    expect(LOW_WIDTHS).toEqual([0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 24, 32, 64]);
  });

  test('each code has its width at both ends, and the value beyond needs the next one', () => {
    const codeOf = (value: bigint) => new Uint32Array(packLow([value, ...new Array(63).fill(0n)], [0, 0]).buffer)[4];
    for (const [code, width] of LOW_WIDTHS.entries()) {
      if (code === 0) continue;
      const most = 2n ** BigInt(width - 1);
      expect([codeOf(most - 1n), codeOf(-most)]).toEqual([code, code]);
      if (width < 64) expect([codeOf(most), codeOf(-most - 1n)]).toEqual([code + 1, code + 1]);
    }
  });

  test('a reader accepts wider codes than are needed', () => {
    const values = Array.from({ length: 192 }, (_, v) => BigInt((v % 3) - 1));
    for (let code = 1; code < LOW_WIDTHS.length; code++)
      expect(unpackLow(packLow(values, [0, 0], [code, 15 - (code % 8)]), 192, 'sums')).toEqual(values);
  });

  test('blocks that start anywhere are read', () => {
    const packed = packLowSums([5n, ...new Array(63).fill(-2n)], gridBytes(64, [0]));
    const shifted = new Uint8Array(packed.length + 1);
    shifted.set(packed, 1);
    expect(unpackLow(shifted.subarray(1), 64, 'sums')).toEqual(unpackLow(packed, 64, 'sums'));
  });
});

describe('malformed blocks of the low wire', () => {
  const VALUES = 128 + 64;
  const sums = packLowSums(new Array(VALUES).fill(300n), gridBytes(VALUES, [0]));
  const updates = packUpdates(new Array(VALUES).fill(1), gridBytes(VALUES, [0]), new Uint32Array(VALUES));
  const change = (of: Uint8Array, edit: (words: Uint32Array, bytes: Uint8Array) => void, more = 0) => {
    const bytes = new Uint8Array(of.length + more);
    bytes.set(of.subarray(0, bytes.length));
    edit(new Uint32Array(bytes.buffer, 0, Math.floor(bytes.length / 4)), bytes);
    return bytes;
  };
  const nothing = () => {};
  const [sumCodes, updateCodes] = [lowCodesAt(VALUES, 'sums'), lowCodesAt(VALUES, 'updates')];

  test.each<[string, Uint8Array]>([
    ['empty', new Uint8Array()],
    ['a cut header', sums.slice(0, 4 * lowHeadWords(VALUES, 'sums') - 4)],
    ['a cut payload', sums.slice(0, -4)],
    ['a cut payload that says so', change(sums, (w) => w.fill(w.length, 0, 1), -4)],
    ['words after the payload', change(sums, nothing, 4)],
    ['words after the payload that are announced', change(sums, (w) => w.fill(w.length, 0, 1), 4)],
    ['not whole words', change(sums, nothing, -1)],
    ['another number of words', change(sums, (w) => w.fill(w[0] + 1, 0, 1))],
    ['another number of values', change(sums, (w) => w.fill(128, 1, 2))],
    ['a wider code', change(sums, (w) => w.fill(w[sumCodes] + 1, sumCodes, sumCodes + 1))],
    ['a narrower code', change(sums, (w) => w.fill(w[sumCodes] - 1, sumCodes, sumCodes + 1))],
    ['bits after the last code', change(sums, (w) => w.fill(w[sumCodes] | 0x100, sumCodes, sumCodes + 1))],
  ])('sums are refused: %s', (_, bytes) => {
    expect(unpackLow(sums, VALUES, 'sums')[VALUES - 1]).toBe(300n);
    expect(() => lowLayout(bytes, VALUES, 'sums')).toThrow(CODE);
  });

  test.each<[string, Uint8Array, RegExp]>([
    ['a cut grid', updates.slice(0, 16), /cannot hold/],
    ['a code above 3', wide(), /block 0 of updates has the code 4/],
    ['an exponent below -40', change(updates, (_, b) => b.fill(23, 16, 17)), /grid block 0 has the exponent -41/],
    ['an exponent above 8', change(updates, (_, b) => b.fill(73, 18, 19)), /grid block 2 has the exponent 9/],
    ['a grid byte of zero', change(updates, (_, b) => b.fill(0, 17, 18)), /grid block 1 has the exponent -64/],
    ['bytes after the last grid byte', change(updates, (_, b) => b.fill(64, 19, 20)), /after the last grid byte/],
    ['bits after the last code', change(updates, (w) => w.fill(0x1011, updateCodes, updateCodes + 1)), /last code/],
    ['sums', sums, /words|codes|grid|cannot/],
  ])('updates are refused: %s', (_, bytes, reason) => {
    expect(unpackLow(updates, VALUES, 'updates')[VALUES - 1]).toBe(1n);
    expect(() => lowLayout(bytes, VALUES, 'updates')).toThrow(CODE);
    expect(() => lowLayout(bytes, VALUES, 'updates')).toThrow(reason);
  });

  function wide(): Uint8Array {
    return packUpdates(new Array(VALUES).fill(1), gridBytes(VALUES, [0]), new Uint32Array(VALUES), [4]);
  }

  test('grid bytes are checked alone as well: those of a whole bucket, with both decays', () => {
    for (const decays of [false, true]) checkGridBytes(gridBytes(VALUES, [-40, 8, 0], decays), VALUES);
    expect(() => checkGridBytes(gridBytes(VALUES, [0]).subarray(1), VALUES)).toThrow(CODE);
    expect(() => checkGridBytes(gridBytes(VALUES, [-41], true), VALUES)).toThrow(CODE);
  });

  test('whatever the bytes are, they are read or refused', () => {
    const edits = fc.array(fc.tuple(fc.nat(40), fc.nat(255)), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(edits, fc.constantFrom('sums' as const, 'updates' as const), (changes, kind) => {
        const bytes = change(kind === 'sums' ? sums : updates, (_, b) => {
          for (const [at, byte] of changes) b[at] = byte;
        });
        try {
          expect(lowLayout(bytes, VALUES, kind).codes.length).toBe(2);
        } catch (error) {
          expect(error).toEqual(CODE);
        }
      }),
    );
  });
});
