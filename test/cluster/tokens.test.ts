import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { packWindows, unpackWindows, windowBytes } from '../../cluster/protocol/tokens.js';
import { IGNORED_TARGET, type MicroBatch } from '../../src/model/gpt.js';
import { microBatches } from '../../src/train/batches.js';

const malformed = expect.objectContaining({ code: 'LT_CLUSTER_MALFORMED' });
const CONTEXT = 3;

/** A micro-batch of `sequences` sequences, of which the last `padding` are without loss. */
function microBatch(vocabSize: number, sequences: number, padding = 0): MicroBatch {
  const tokens = Uint32Array.from({ length: sequences * CONTEXT }, (_, i) => (7919 * i + 11) % vocabSize);
  const targets = Uint32Array.from(tokens, (_, i) =>
    (i + 1) % CONTEXT === 0 ? vocabSize - 1 - (i % vocabSize) : tokens[i + 1],
  );
  const real = (sequences - padding) * CONTEXT;
  return { tokens: tokens.fill(0, real), targets: targets.fill(IGNORED_TARGET, real), firstSlot: 5 };
}

const of = (vocabSize: number) => ({ vocabSize, context: CONTEXT });

describe('windows of ids', () => {
  test('micro-batches come out as they went in, whatever the vocabulary, padded or not', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(256, 50257, 65535, 65536, 65537, 200_000),
        fc.integer({ min: 1, max: 5 }),
        fc.nat(4),
        (vocabSize, sequences, more) => {
          const padding = Math.min(more, sequences - 1);
          const { firstSlot, ...batch } = microBatch(vocabSize, sequences, padding);
          const packed = packWindows({ ...batch, firstSlot }, of(vocabSize));
          const width = vocabSize <= 65536 ? 2 : 4;
          expect(packed.length).toBe((sequences - padding) * (CONTEXT + 1) * width);
          // Like a view of a message: at an odd place.
          const shifted = new Uint8Array(packed.length + 1);
          shifted.set(packed, 1);
          expect(unpackWindows(shifted.subarray(1), of(vocabSize), sequences, padding > 0)).toEqual(batch);
        },
      ),
    );
  });

  test('the last micro-batch of an evaluation comes out as it was gathered', () => {
    const source = { length: 100, read: (at: number, n: number) => Uint16Array.from({ length: n }, (_, i) => at + i) };
    const gathered = microBatches(source, [4, 9, 30, 2, 77], CONTEXT, 2);
    expect(gathered).toHaveLength(3);
    for (const { firstSlot, ...batch } of gathered)
      expect(unpackWindows(packWindows({ ...batch, firstSlot }, of(100)), of(100), 2, true)).toEqual(batch);
    expect(packWindows(gathered[2], of(100)).length).toBe(windowBytes(of(100)));
  });

  test.each([
    ['a window too few', 3, false],
    ['a window too many', 5, false],
    ['a window too many for padding', 5, true],
    ['no window', 0, true],
  ])('%s is malformed', (_what, windows, padded) => {
    const bytes = new Uint8Array(windows * windowBytes(of(61)));
    expect(() => unpackWindows(bytes, of(61), 4, padded)).toThrow(malformed);
  });

  test('a part of a window, and an id beyond the vocabulary, are malformed', () => {
    for (const vocabSize of [61, 65535, 100_000]) {
      const packed = packWindows(microBatch(vocabSize, 2), of(vocabSize));
      for (const cut of [1, 2, 4]) {
        expect(() => unpackWindows(packed.subarray(cut), of(vocabSize), 2, true)).toThrow(malformed);
        expect(() => unpackWindows(packed.subarray(cut), of(vocabSize), 2)).toThrow(malformed);
      }
      for (let at = 0; at < packed.length; at += packed.length / 8) {
        const wrong = packed.slice();
        const view = new DataView(wrong.buffer);
        if (vocabSize > 65536) view.setUint32(at, vocabSize, true);
        else view.setUint16(at, vocabSize, true);
        expect(() => unpackWindows(wrong, of(vocabSize), 2)).toThrow(malformed);
        expect(() => unpackWindows(wrong, of(vocabSize), 3, true)).toThrow(malformed);
      }
    }
  });

  test('nothing is packed that a window cannot say', () => {
    const { tokens, targets, firstSlot } = microBatch(61, 3, 1);
    const packs = (change: (tokens: Uint32Array, targets: Uint32Array) => void) => {
      const one = { tokens: tokens.slice(), targets: targets.slice(), firstSlot };
      change(one.tokens, one.targets);
      return packWindows(one, of(61));
    };
    expect(packs(() => {}).length).toBe(2 * windowBytes(of(61)));
    expect(() => packs((_, t) => t.fill(t[1] + 1, 1, 2))).toThrow(RangeError);
    expect(() => packs((_, t) => t.fill(IGNORED_TARGET, 1, 2))).toThrow(RangeError);
    expect(() => packs((_, t) => t.fill(4, 8, 9))).toThrow(RangeError);
    expect(() => packs((t) => t.fill(4, 8, 9))).toThrow(RangeError);
  });
});
