import { expect, test } from 'vitest';
import { Throughput } from '../../src/cli/throughput.js';

const member = (id: number, tokens: number, workMs: number) => ({
  id,
  name: `w${id}`,
  totals: { tokens, workMs } as never,
});

test('a line tells what each worker did since the one before, and nobody who is gone is remembered', () => {
  const throughput = new Throughput();
  expect(throughput.line([member(1, 0, 0)])).toBeUndefined();
  expect(throughput.line([member(1, 100, 1000), member(2, 50, 1000)])).toBe(
    'workers  w1 100   w2 50 tokens/s while at work',
  );
  expect(throughput.line([member(1, 100, 1000), member(2, 90, 1500)])).toBe('workers  w2 80 tokens/s while at work');
  expect(throughput.line([member(2, 90, 1500)])).toBeUndefined();
  // As one that was never there.
  expect(throughput.line([member(1, 100, 1000), member(2, 90, 1500)])).toBe('workers  w1 100 tokens/s while at work');
});
