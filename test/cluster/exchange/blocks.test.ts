import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  BLOCK_VALUES,
  blockLayout,
  HEADER_WORDS,
  headWords,
  LOSS_BUCKET_VALUES,
  lossOf,
  mostWords,
  packLoss,
  packSums,
} from '../../../cluster/exchange/blocks.js';
import { weightsChecksum } from '../../../cluster/exchange/checksum.js';
import { applyDifferences, orderKey, packDifferences, unpackSums } from '../../reference/blocks.js';
import { blocks, SPECIAL_BITS, weightPairs, wordsOf } from '../../train/values.js';

const SIZES = [64, 256, 320, 5 * 256 + 192];
const CODE = expect.objectContaining({ code: 'LT_CLUSTER_FRAME' });

function alone(value: bigint): Uint8Array {
  const { low, high } = wordsOf([value, ...new Array(63).fill(0n)]);
  return packSums(low, high);
}

describe('sums in blocks', () => {
  test('sums in blocks come back as they were', () => {
    const any = fc.constantFrom(...SIZES).chain((size) => blocks(size));
    fc.assert(
      fc.property(any, (words) => {
        expect(unpackSums(packSums(words.low, words.high), words.low.length)).toEqual(words);
      }),
    );
  });

  test('sums in blocks take the smallest width that holds the value', () => {
    const widthOfValue = (value: bigint) => alone(value)[4 * HEADER_WORDS];
    expect(widthOfValue(0n)).toBe(0);
    for (const width of [1, 2, 3, 4, 5]) {
      const most = 2n ** BigInt(8 * width - 1);
      expect(widthOfValue(most - 1n)).toBe(width);
      expect(widthOfValue(-most)).toBe(width);
      const wider = width === 5 ? 8 : width + 1;
      expect(widthOfValue(most)).toBe(wider);
      expect(widthOfValue(-most - 1n)).toBe(wider);
    }
    for (const value of [-1n, 1n]) expect(widthOfValue(value)).toBe(1);
    for (const value of [2n ** 63n - 1n, -(2n ** 63n)]) expect(widthOfValue(value)).toBe(8);
  });

  test('sums in blocks have the documented bytes', () => {
    const values = new Array(BLOCK_VALUES + 64).fill(0n);
    values[1] = -0x123456n;
    values[BLOCK_VALUES] = 0x7fn;
    const { low, high } = wordsOf(values);
    const packed = packSums(low, high);
    const words = new Uint32Array(packed.buffer);
    expect([...words.slice(0, 5)]).toEqual([words.length, 320, 0, 0, 0x0103]);
    const first = 4 * 5;
    expect([...packed.slice(first, first + 6)]).toEqual([0, 0, 0xaa, 0xcb, 0, 0]);
    expect(packed[first + 2 * BLOCK_VALUES + 1]).toBe(0xed);
    expect(packed[first + 3 * BLOCK_VALUES]).toBe(0x7f);
    expect(packed.length).toBe(first + 3 * BLOCK_VALUES + 64);
  });

  test('sums in blocks never take more than mostWords', () => {
    const { low, high } = wordsOf(new Array(320).fill(-(2n ** 63n)));
    expect(packSums(low, high).length).toBe(4 * mostWords(320, 'sums'));
  });

  test('sums in blocks carry the loss exactly', () => {
    for (const sum of [0n, 12345678901234567n, -1n, 2n ** 62n + 1n]) {
      const { low, high } = unpackSums(packLoss(sum), LOSS_BUCKET_VALUES);
      expect(lossOf(low, high)).toEqual({ loss: sum, halvings: 0 });
    }
  });
});

describe('differences of weights', () => {
  test('differences of weights lead from any bits to any bits', () => {
    fc.assert(
      fc.property(fc.constantFrom(...SIZES).chain(weightPairs), ({ before, after }) => {
        const weights = before.slice();
        applyDifferences(packDifferences(before, after), weights);
        expect(weights).toEqual(after);
      }),
    );
  });

  test('differences of weights lead from each special float to each other', () => {
    for (const from of SPECIAL_BITS) {
      const after = Uint32Array.from({ length: 64 }, (_, i) => SPECIAL_BITS[i % SPECIAL_BITS.length]);
      const weights = new Uint32Array(64).fill(from);
      applyDifferences(packDifferences(weights, after), weights);
      expect(weights).toEqual(after);
    }
  });

  test('differences of weights are small where weights move little, also across zero', () => {
    const before = new Uint32Array(64).fill(0x80000003);
    const after = new Uint32Array(64).fill(0x00000004);
    expect(packDifferences(before, after)[4 * HEADER_WORDS]).toBe(1);
  });

  test('differences of weights refuse to be applied to other weights', () => {
    const weights = new Uint32Array(64).fill(7);
    const packed = packDifferences(
      weights,
      weights.map((w) => w + 1),
    );
    weights[63] ^= 0x80000000;
    expect(() => applyDifferences(packed, weights)).toThrow(CODE);
  });

  test('differences of weights go by keys that order floats as their values and lead back', () => {
    const floats = Float32Array.of(-Infinity, -3e38, -1, -1e-45, -0, 0, 1e-45, 1e-38, 1, 2, Infinity);
    const keys = Array.from(new Uint32Array(floats.buffer), (bits) => orderKey(bits) | 0);
    expect(keys).toEqual(keys.toSorted((a, b) => a - b));
    for (const bits of SPECIAL_BITS) expect(orderKey(orderKey(bits))).toBe(bits);
  });
});

describe('the checksum', () => {
  test('the checksum of weights tells flipped bits, two flipped signs and swapped weights', () => {
    const weights = Uint32Array.from({ length: 256 }, (_, i) => Math.imul(i + 1, 0x01000193) >>> 0);
    const known = weightsChecksum(weights);
    const changes: ((w: Uint32Array) => void)[] = [
      (w) => {
        w[3] ^= 1;
      },
      (w) => {
        w[3] ^= 0x80000000;
        w[9] ^= 0x80000000;
      },
      (w) => {
        [w[3], w[9]] = [w[9], w[3]];
      },
    ];
    for (const change of changes) {
      const other = weights.slice();
      change(other);
      expect(weightsChecksum(other)).not.toEqual(known);
    }
  });
});

describe('malformed blocks', () => {
  const packed = alone(300n);
  const change = (edit: (bytes: Uint8Array, words: Uint32Array) => void, length = packed.length) => {
    const bytes = new Uint8Array(length);
    bytes.set(packed.subarray(0, length));
    edit(bytes, new Uint32Array(bytes.buffer, 0, Math.floor(length / 4)));
    return bytes;
  };
  const nothing = () => {};
  const widths = 4 * HEADER_WORDS;

  test.each([
    ['empty', change(nothing, 0)],
    ['a cut header', change(nothing, 4 * headWords(64) - 4)],
    ['a cut payload', change(nothing, packed.length - 4)],
    [
      'a cut payload that says so',
      change((_, w) => {
        w[0] -= 1;
      }, packed.length - 4),
    ],
    ['bytes after the payload', change(nothing, packed.length + 4)],
    [
      'bytes after the payload that are announced',
      change((_, w) => {
        w[0] += 1;
      }, packed.length + 4),
    ],
    ['not whole words', change(nothing, packed.length - 1)],
    [
      'another number of values',
      change((_, w) => {
        w[1] = 128;
      }),
    ],
    [
      'a checksum',
      change((_, w) => {
        w[3] = 1;
      }),
    ],
    [
      'an unknown width',
      change((b) => {
        b[widths] = 6;
      }),
    ],
    [
      'a wider width',
      change((b) => {
        b[widths] = 3;
      }),
    ],
    [
      'a narrower width',
      change((b) => {
        b[widths] = 1;
      }),
    ],
    [
      'a huge width',
      change((b) => {
        b[widths] = 255;
      }),
    ],
    [
      'bytes after the last width',
      change((b) => {
        b[widths + 3] = 1;
      }),
    ],
  ])('malformed blocks are refused: %s', (_, bytes) => {
    expect(() => unpackSums(bytes, 64)).toThrow(CODE);
  });

  test('blocks that say another number of words than they have are refused', () => {
    const bytes = change((_, words) => {
      words[0] += 1;
    });
    expect(() => unpackSums(bytes, 64)).toThrow(CODE);
  });

  test.each([6, 7, 9])('a width of %i is refused, also with as many bytes', (width) => {
    const length = 4 * (headWords(64) + 16 * width);
    const bytes = change((b, words) => {
      b[widths] = width;
      words[0] = length / 4;
    }, length);
    expect(() => unpackSums(bytes, 64)).toThrow(CODE);
  });

  test('a width that only sums may have is refused in differences', () => {
    const bytes = change(
      (b, w) => {
        b[widths] = 5;
        w[0] = headWords(64) + 5 * 16;
      },
      4 * (headWords(64) + 5 * 16),
    );
    expect(unpackSums(bytes, 64).low[0]).toBe(packed[4 * headWords(64)] + 256 * packed[4 * headWords(64) + 1]);
    const weights = new Uint32Array(64);
    expect(() => applyDifferences(bytes, weights)).toThrow(CODE);
    expect(weights).toEqual(new Uint32Array(64));
  });

  test('whatever the bytes are, unpacking either works or says so', () => {
    const edits = fc.array(fc.tuple(fc.nat(packed.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(edits, (changes) => {
        const bytes = change((b) =>
          changes.forEach(([at, byte]) => {
            b[at] = byte;
          }),
        );
        try {
          expect(blockLayout(bytes, 64, 'sums').widths.length).toBe(1);
        } catch (error) {
          expect(error).toEqual(CODE);
        }
      }),
    );
  });

  test('unpacking takes bytes that start anywhere', () => {
    const shifted = new Uint8Array(packed.length + 1);
    shifted.set(packed, 1);
    expect(unpackSums(shifted.subarray(1), 64)).toEqual(unpackSums(packed, 64));
  });
});
