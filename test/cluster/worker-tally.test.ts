import { expect, test } from 'vitest';
import { WorkerTally } from '../../cluster/worker-tally.js';
import { sumWorkers } from '../../src/report/workers.js';

const total = (name: string, tokens: number, computeMs = tokens) => ({
  name,
  adapter: 'none',
  bitClass: 'c',
  tokens,
  computeMs,
});

test('tells each time what is new, of those that are there and of those that have left', () => {
  const tally = new WorkerTally();
  const parts = [tally.takeNews([total('a', 10), total('b', 20)])];
  expect(parts[0]).toEqual([total('a', 10), total('b', 20)]);
  expect(tally.takeNews([total('a', 10), total('b', 20)])).toEqual([]);
  tally.left(total('b', 25));
  expect(tally.departed).toEqual([total('b', 25)]);
  parts.push(tally.takeNews([total('a', 30)]));
  // It comes back, and counts from 0 again.
  parts.push(tally.takeNews([total('a', 30), total('b', 5)]));
  tally.left(total('b', 8));
  tally.left(total('c', 0));
  parts.push(tally.takeNews([total('a', 31)]));
  expect(sumWorkers(parts.flat())).toEqual([total('a', 31), total('b', 33)]);
});
