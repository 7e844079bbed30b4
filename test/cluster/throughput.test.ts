import { expect, test } from 'vitest';
import { Throughput } from '../../cluster/throughput.js';
import { throughputLine } from '../../src/cli/throughput.js';

const member = (id: number, tokens: number, workMs: number) => ({
  id,
  name: `w${id}`,
  totals: { tokens, workMs } as never,
});

test('a line tells what each worker did since the one before, and nobody who is gone is remembered', () => {
  const throughput = new Throughput();
  const line = (...members: ReturnType<typeof member>[]) => {
    const event = throughput.take(members);
    return event && throughputLine(event);
  };
  expect(line(member(1, 0, 0))).toBeUndefined();
  expect(line(member(1, 100, 1000), member(2, 50, 1000))).toBe('workers  w1 100   w2 50 tokens/s while at work');
  expect(line(member(1, 100, 1000), member(2, 90, 1500))).toBe('workers  w2 80 tokens/s while at work');
  expect(line(member(2, 90, 1500))).toBeUndefined();
  // It counts as a new worker.
  expect(line(member(1, 100, 1000), member(2, 90, 1500))).toBe('workers  w1 100 tokens/s while at work');
});
