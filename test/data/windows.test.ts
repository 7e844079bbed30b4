import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { memoryTokens } from '../../src/data/token-file.js';
import { gatherWindow, Windows } from '../../src/data/windows.js';
import { deriveKey, permutation, Stream } from '../../src/util/random.js';
import { expectFailure } from './helpers.js';

const plain = { tokens: 26, context: 5, stride: 5, batch: 2, shuffle: false, seed: 1 };

describe('windows', () => {
  test('windows are as many as fit with their last target', () => {
    expect(new Windows(plain).windowCount).toBe(5);
    expect(new Windows({ ...plain, tokens: 25 }).windowCount).toBe(4);
    expect(new Windows({ ...plain, tokens: 6, batch: 1 }).windowCount).toBe(1);
    // The Verdict's training part as the lecture cuts it: 4612 tokens, 9 steps an epoch.
    expect(new Windows({ ...plain, tokens: 4612, context: 256, stride: 256 }).stepsPerEpoch).toBe(9);
    fc.assert(
      fc.property(
        fc.record({
          tokens: fc.nat(300),
          context: fc.integer({ min: 1, max: 20 }),
          stride: fc.integer({ min: 1, max: 30 }),
        }),
        ({ tokens, context, stride }) => {
          fc.pre(tokens > context);
          let fit = 0;
          for (let start = 0; start + context + 1 <= tokens; start += stride) fit++;
          expect(new Windows({ ...plain, tokens, context, stride, batch: 1 }).windowCount).toBe(fit);
        },
      ),
    );
  });

  test('windows come in order without shuffling, drop the incomplete batch and wrap round', () => {
    const windows = new Windows(plain);
    expect(windows.stepsPerEpoch).toBe(2);
    expect([0, 1, 2, 3].map((step) => windows.startsOf(step))).toEqual([
      [0, 5],
      [10, 15],
      [0, 5],
      [10, 15],
    ]);
    expect([0, 1, 2, 5].map((step) => windows.epochOf(step))).toEqual([0, 0, 1, 2]);
  });

  test('windows come in an order of (seed, epoch) when shuffled, each at most once an epoch', () => {
    const options = { ...plain, tokens: 1000, batch: 3, shuffle: true };
    const windows = new Windows(options);
    const epoch = (n: number, from = windows) =>
      Array.from({ length: from.stepsPerEpoch }, (_, i) => from.startsOf(n * from.stepsPerEpoch + i)).flat();
    const order = Array.from(permutation(deriveKey(1, Stream.shuffle, 4), windows.windowCount), (w) => 5 * w);
    expect(epoch(4)).toEqual(order.slice(0, 3 * windows.stepsPerEpoch));
    expect(new Set(epoch(0)).size).toBe(3 * windows.stepsPerEpoch);
    expect(epoch(0)).not.toEqual(epoch(1));
    expect(epoch(0, new Windows(options))).toEqual(epoch(0));
    expect(epoch(0, new Windows({ ...options, seed: 2 }))).not.toEqual(epoch(0));
  });

  test('windows give the same batch for a step whatever was asked before', () => {
    const options = { ...plain, tokens: 300, shuffle: true };
    fc.assert(
      fc.property(fc.array(fc.nat(200)), (steps) => {
        const windows = new Windows(options);
        for (const step of steps) expect(windows.startsOf(step)).toEqual(new Windows(options).startsOf(step));
      }),
      { numRuns: 30 },
    );
  });

  test('windows are evaluated in order, always the same ones, the incomplete batch kept', () => {
    const windows = new Windows({ ...plain, shuffle: true });
    expect(windows.evaluationBatches(2)).toEqual([
      [0, 5],
      [10, 15],
    ]);
    expect(windows.evaluationBatches(9)).toEqual([[0, 5], [10, 15], [20]]);
    expect(windows.evaluationBatches(0)).toEqual([]);
    expect(new Windows({ ...plain, tokens: 8, part: 'validation' }).evaluationBatches(5)).toEqual([[0]]);
  });

  test('windows have their targets one place after their inputs', () => {
    const { inputs, targets } = gatherWindow(memoryTokens(Uint16Array.from({ length: 20 }, (_, i) => 100 + i)), 7, 4);
    expect([...inputs]).toEqual([107, 108, 109, 110]);
    expect([...targets]).toEqual([108, 109, 110, 111]);
  });

  test('windows refuse a part shorter than one window, and name it, its tokens and the way out', async () => {
    await expectFailure(
      () => new Windows({ ...plain, tokens: 5 }),
      'LT_DATA_SHORT',
      'training part has 5 tokens',
      'needs 6',
      '--context',
      'smaller --val-ratio',
    );
    await expectFailure(
      () => new Windows({ ...plain, tokens: 1, part: 'validation' }),
      'LT_DATA_SHORT',
      'validation part has 1 token,',
      'larger --val-ratio',
    );
  });

  test('windows refuse a training part of fewer windows than a batch', async () => {
    await expectFailure(
      () => new Windows({ ...plain, tokens: 12, batch: 3 }),
      'LT_DATA_SHORT',
      '12 tokens',
      '2 windows',
      'one batch needs 3',
      '--batch',
    );
  });

  test('windows refuse a stride or batch of nothing', async () => {
    await expectFailure(() => new Windows({ ...plain, stride: 0 }), 'LT_USAGE_OPTION', '--stride');
    await expectFailure(() => new Windows({ ...plain, batch: 0 }), 'LT_USAGE_BATCH', '--batch');
  });
});
