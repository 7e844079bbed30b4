import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { RunDirectory } from '../../src/checkpoint/run.js';
import type { RunEvent } from '../../src/index.js';
import { type MetricsEvent, readMetrics } from '../../src/report/metrics.js';
import { RunJournal } from '../../src/run/journal.js';
import type { RunFacts } from '../../src/watch/messages.js';
import { failure, scratch, TINY } from '../checkpoint/helpers.js';

const FACTS: RunFacts = {
  type: 'run',
  name: 'run',
  version: '1',
  kind: 'cluster',
  model: '',
  data: '',
  adapter: '',
  totalSteps: 9,
  tokensPerStep: 1,
  stepsPerEpoch: 9,
  settings: [],
};
const step = (n: number): MetricsEvent => {
  return { event: 'step', step: n, loss: 1 / n, tokens: 1, tokensPerSecond: 1, lr: 1 };
};
const workers = (n: number, tokens: number): MetricsEvent => {
  return { event: 'workers', step: n, workers: [{ name: 'a', adapter: 'x', bitClass: 'b', tokens, computeMs: 1 }] };
};
const inexact = (n: number, worker: string): MetricsEvent => ({ event: 'inexact', step: n, worker, reason: 'lied' });

async function journalOf(past: readonly MetricsEvent[] = [], from = 0) {
  const run = await RunDirectory.create(join(scratch(), 'run'), { version: '1', model: TINY });
  const told: RunEvent[] = [];
  const stop = new AbortController();
  const tell = (event: RunEvent) => void told.push(event);
  const journal = new RunJournal(run, { facts: FACTS, past, from, now: () => 0, stop: stop.signal, tell });
  const page = () => journal.telemetry.update()?.log?.map(({ kind, text }) => [kind, text]) ?? [];
  return { run, journal, told, stop, page };
}

test('an event goes to the metrics, to the page and to the host, once each', async () => {
  const { run, journal, told, page } = await journalOf();
  const events = [step(1), inexact(1, 'bob'), workers(1, 5), step(2)];
  for (const event of events) journal.record(event);
  journal.mention('refuse', 'eve: wrong token', 'refused eve: wrong token');
  journal.log('late', 'for the page alone');
  expect(readMetrics(join(run.root, 'metrics.jsonl'))).toEqual(events);
  expect(told).toEqual([...events, { event: 'note', text: 'refused eve: wrong token' }]);
  expect(page()).toEqual([
    ['inexact', 'lied'],
    ['refuse', 'eve: wrong token'],
    ['late', 'for the page alone'],
  ]);
  expect(journal.step).toBe(2);
});

test('the journal remembers what is asked of the events at the end, of the course that the run has taken', async () => {
  // The run has gone back to step 1 and computed step 2 again.
  const past = [step(1), workers(1, 5), step(2), inexact(2, 'eve'), workers(2, 7), step(2), workers(2, 1)];
  const { journal } = await journalOf(past, 2);
  expect([journal.inexact, journal.mixed]).toEqual([undefined, false]);
  expect(journal.workers).toMatchObject([{ name: 'a', tokens: 6 }]);
  expect([journal.had('step'), journal.had('eval')]).toEqual([true, false]);
  for (const event of [step(3), workers(3, 2), inexact(3, 'bob'), inexact(2, 'ann')]) journal.record(event);
  journal.record({ event: 'mixed', step: 3, worker: 'a' });
  expect(journal.inexact).toEqual({ since: 2, workers: ['bob', 'ann'] });
  expect([journal.mixed, journal.workers[0].tokens]).toEqual([true, 8]);
  expect(journal.losses.steps((n) => n)).toEqual([1, 2, 3]);
});

test('a mark is on the disk before anybody is told of it', async () => {
  const { run, journal, told } = await journalOf();
  const sync = vi.spyOn(run, 'sync').mockImplementation(() => void expect(told).toEqual([]));
  journal.record(inexact(1, 'bob'));
  expect([sync.mock.calls.length, told.length]).toEqual([1, 1]);
});

test('what cannot be written is not told, but for lines; the end of a run throws nothing whatever', async () => {
  const { run, journal, told, page } = await journalOf();
  run.close();
  rmSync(run.root, { recursive: true });
  await failure('LT_RUN_WRITE', async () => journal.record(step(1)));
  journal.remark({ event: 'output', step: 0, reason: 'standard output is lost' });
  expect(journal.end('failed', new Error('the disk is full\nand more'))).toBe(false);
  expect(told).toEqual([]);
  expect(page()).toEqual([
    ['output', 'standard output is lost'],
    ['failed', 'the disk is full'],
  ]);
  expect(journal.telemetry.status).toMatchObject({ state: 'failed', reason: 'the disk is full' });
});

test('a run that is stopped says so in its metrics, and its page from when it was asked to', async () => {
  const { run, journal, told, stop } = await journalOf();
  journal.record(step(1));
  stop.abort();
  expect(journal.telemetry.status.state).toBe('stopping');
  expect(journal.end('stopped')).toBe(true);
  expect(journal.telemetry.status.state).toBe('stopped');
  expect(told.at(-1)).toEqual({ event: 'stopped', step: 1 });
  expect(readFileSync(join(run.root, 'metrics.jsonl'), 'utf8')).toMatch(/"event":"stopped","step":1}\n$/);
});
