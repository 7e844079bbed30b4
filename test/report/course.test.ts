import { expect, test } from 'vitest';
import { courseOf, endOf } from '../../src/report/course.js';
import type { MetricsEvent } from '../../src/report/metrics.js';
import { evaluation, step } from './helpers.js';

const steps = (from: number, to: number, loss: number): MetricsEvent[] =>
  Array.from({ length: to - from + 1 }, (_, i) => step(from + i, loss));
const checkpoint = (at: number, digest: string): MetricsEvent => ({ event: 'checkpoint', step: at, digest, path: 'p' });
const workers = (at: number, tokens: number): MetricsEvent => ({
  event: 'workers',
  step: at,
  workers: [{ name: 'a', adapter: 'none', bitClass: 'c', tokens, computeMs: 1 }],
});

test('an undisturbed run comes back as it is', () => {
  const run = [...steps(1, 5, 3), evaluation(5, 3, 3), checkpoint(5, 'd'), workers(5, 1), ...steps(6, 9, 2)];
  expect(courseOf(run)).toEqual(run);
});

test('steps that were computed again are there once, with what belongs to them', () => {
  const before = [...steps(1, 4, 3), evaluation(4, 3, 3), checkpoint(4, 'x'), workers(4, 7), ...steps(5, 8, 3)];
  const undone = [evaluation(8, 3, 3), workers(8, 9)];
  const again = [...steps(5, 9, 2), evaluation(8, 2, 2), workers(9, 5)];
  const resume: MetricsEvent = { event: 'resume', step: 4 };
  expect(courseOf([...before, ...undone, resume, ...again])).toEqual([...before.slice(0, 7), resume, ...again]);
});

test('of a checkpoint that is told of twice the last one stays', () => {
  const events = courseOf([...steps(1, 2, 3), checkpoint(2, 'x'), checkpoint(2, 'y')]);
  expect(events).toEqual([...steps(1, 2, 3), checkpoint(2, 'y')]);
});

test.each<[string, MetricsEvent[], ReturnType<typeof endOf>]>([
  ['nothing', [], { state: 'unfinished' }],
  ['steps and no more', steps(1, 2, 3), { state: 'unfinished' }],
  ['done', [...steps(1, 2, 3), { event: 'done', step: 2, digest: 'd', seconds: 1 }], { state: 'done' }],
  ['stopped', [...steps(1, 2, 3), { event: 'stopped', step: 2 }, workers(2, 1)], { state: 'stopped' }],
  ['failed', [{ event: 'failed', step: 0, reason: 'no disk' }], { state: 'failed', reason: 'no disk' }],
  ['gone on with', [{ event: 'stopped', step: 2 }, ...steps(3, 4, 3)], { state: 'unfinished' }],
])('the end of a run is known from its events: %s', (_, events, end) => {
  expect(endOf(events)).toEqual(end);
});
