import { expect, test } from 'vitest';
import { memoryTokens } from '../../src/data/token-file.js';
import { Windows } from '../../src/data/windows.js';
import { EvaluationList } from '../../src/train/evaluation.js';

function listOf(tokens: number, batches: number, context = 4) {
  const source = memoryTokens(Uint16Array.from({ length: tokens }, (_, i) => i % 1000));
  let reads = 0;
  const counted = {
    length: tokens,
    read: (start: number, count: number) => {
      reads++;
      return source.read(start, count);
    },
  };
  const options = { tokens, context, stride: context, batch: 2, shuffle: true, seed: 1, part: 'training' as const };
  return { list: new EvaluationList(counted, new Windows(options), batches, context, 2), reads: () => reads };
}

test('a list has the first windows in order, whatever the order of training', () => {
  const { list } = listOf(41, 2);
  expect(list.tokens).toBe(16);
  expect(list.batches().map(({ tokens }) => [...tokens])).toEqual([
    [0, 1, 2, 3, 4, 5, 6, 7],
    [8, 9, 10, 11, 12, 13, 14, 15],
  ]);
});

test('a short list is gathered once; a long one takes no memory between evaluations', () => {
  const short = listOf(41, 5);
  expect(short.list.batches()).toBe(short.list.batches());
  expect(short.reads()).toBe(10);
  const long = listOf(2 ** 20 + 2 ** 12, 2 ** 10, 2 ** 10);
  expect(long.list.tokens).toBeGreaterThan(2 ** 20);
  // `toBe` would print the difference of a million tokens.
  const [first, second] = [long.list.batches(), long.list.batches()];
  expect(first === second).toBe(false);
});
