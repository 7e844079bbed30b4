import { expect, test } from 'vitest';
import { Credits } from '../../cluster/coordinator/credits.js';
import { AwakeClock, addReported } from '../../cluster/coordinator/times.js';
import { microBatchSet } from '../../cluster/round/sets.js';
import { WorkerTally } from '../../cluster/worker/worker-tally.js';
import { emptyTotals } from '../../src/report/worker-totals.js';
import { sumWorkers } from '../../src/report/workers.js';

const who = (name: string) => ({ name, adapter: 'none', bitClass: 'c' });
const set = (...microBatches: number[]) => microBatchSet(microBatches);
const total = (name: string, tokens: number, computeMs = tokens) => ({ ...who(name), tokens, computeMs });

test('a tally tells each time what is new, whoever has left since and come again', () => {
  const tally = new WorkerTally();
  tally.credit(who('a'), 10, 10);
  tally.credit(who('b'), 20, 20);
  const parts = [tally.takeNews()];
  expect(parts[0]).toEqual([total('a', 10), total('b', 20)]);
  expect(tally.takeNews()).toEqual([]);
  tally.credit(who('b'), 5, 5);
  tally.credit(who('a'), 20, 20);
  parts.push(tally.takeNews());
  tally.credit(who('b'), 8, 8.4);
  parts.push(tally.takeNews());
  expect(sumWorkers(parts.flat())).toEqual([total('a', 30), total('b', 33)]);
  // b is connected, so 8 of its tokens are listed elsewhere.
  expect(tally.without([total('b', 8, 8)])).toEqual([total('a', 30), total('b', 25, 25.4)]);
});

test('a tally counts no end of names', () => {
  const tally = new WorkerTally();
  for (let i = 0; i < 5000; i++) tally.credit(who(`worker ${i}`), 1, 1);
  expect(tally.all.length).toBeLessThanOrEqual(1001);
  expect(tally.all.reduce((sum, { tokens }) => sum + tokens, 0)).toBe(5000);
});

test("each micro-batch whose losses were used is credited by the dealer's clock, once the step is committed", () => {
  const credits = new Credits();
  credits.deal(1, 7, who('a'), 'step', 1000);
  credits.deal(2, 7, who('a'), 'step', 1100);
  credits.deal(3, 8, who('b'), 'step', 1000);
  for (const at of [1200, 1500]) credits.arrived(1, 7, at);
  credits.arrived(2, 7, 1900);
  // A worker cannot report another's assignment.
  credits.arrived(2, 8, 9999);
  credits.arrived(3, 8, 1300);
  credits.count(1, set(0, 1, 2));
  credits.count(2, set(3));
  expect(credits.tally.all).toEqual([]);
  const told: unknown[] = [];
  credits.commit(10, (worker, { name }, tokens, workMs) => told.push([worker, name, tokens, workMs]));
  // The second assignment waited for the first; b's was not used.
  expect(told).toEqual([
    [7, 'a', 30, 500],
    [7, 'a', 10, 400],
  ]);
  expect(credits.tally.all).toEqual([total('a', 40, 900)]);
  // The next job starts without credits of this one.
  expect(credits.kindOf(1)).toBeUndefined();
  credits.count(1, set(0, 1, 2));
  credits.commit(10, () => told.push('again'));
  expect(told).toHaveLength(2);
});

test('who confirms the work of another is not credited with it', () => {
  const credits = new Credits();
  credits.deal(1, 7, who('a'), 'step', 0);
  credits.deal(2, 8, who('b'), 'step', 0);
  credits.deal(3, 9, who('c'), 'step', 0);
  // b's copy differs, and c confirms a.
  credits.checked(1, set(0, 1), 'same');
  credits.checked(2, set(0, 1), 'other');
  credits.checked(3, set(0, 1), 'same');
  credits.count(3, set(0, 1), 'same');
  // The same losses of other micro-batches are credited to their own worker.
  credits.checked(2, set(2), 'same');
  credits.count(2, set(2), 'same');
  credits.commit(10, () => {});
  expect(credits.tally.all.map(({ name, tokens }) => [name, tokens])).toEqual([
    ['a', 20],
    ['b', 10],
  ]);
});

test('an abandoned step credits nobody, and an evaluation neither', () => {
  const credits = new Credits();
  credits.deal(1, 7, who('a'), 'step', 0);
  credits.count(1, set(0, 1, 2));
  credits.end();
  credits.deal(2, 7, who('a'), 'evaluate', 0);
  expect(credits.kindOf(2)).toBe('evaluate');
  credits.count(2, set(0));
  credits.commit(10, () => {});
  expect(credits.tally.all).toEqual([]);
});

test('what a worker says of its times adds up to no more than has passed', () => {
  const totals = emptyTotals();
  addReported(totals, { computeMs: 50, uploadMs: 20, downloadMs: 10, waitMs: 5 }, 100);
  expect(totals).toEqual({ tokens: 0, workMs: 0, computeMs: 50, uploadMs: 20, downloadMs: 10, waitMs: 5 });
  addReported(totals, { computeMs: 30, uploadMs: 1e12, downloadMs: 1e12, waitMs: 1e12 }, 100);
  expect(totals).toEqual({ tokens: 0, workMs: 0, computeMs: 80, uploadMs: 90, downloadMs: 10, waitMs: 5 });
});

test('a clock of the time awake knows nothing of a long pause', () => {
  const clock = new AwakeClock(1000, 50);
  expect(clock.now(250)).toBe(200);
  expect(clock.now(1250)).toBe(1200);
  expect(clock.now(3_600_000)).toBe(2200);
  expect(clock.now(3_600_100)).toBe(2300);
});
