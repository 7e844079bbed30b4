import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { EventLog } from '../../src/checkpoint/event-log.js';
import { firstStepsIn, inexactOf, inexactText } from '../../src/report/exactness.js';
import { describe } from '../../src/report/format.js';
import { type MetricsEvent, parseMetrics } from '../../src/report/metrics.js';
import { htmlReport } from '../../src/report/report.js';
import { Telemetry } from '../../src/watch/server/telemetry.js';
import { workFolder } from '../cli/run.js';
import { FACTS } from '../watch/helpers.js';
import { step } from './helpers.js';

const steps = (from: number, to: number): MetricsEvent[] =>
  Array.from({ length: to - from + 1 }, (_, i) => step(from + i, 3));
const mark = (since: number, worker: string): MetricsEvent => ({
  event: 'inexact',
  step: since,
  worker,
  reason: 'the owner has another sum',
});
const contributed = (at: number, person: string): MetricsEvent => ({ event: 'contributed', step: at, person });
const INFO = { title: '', steps: 9, firstStep: 0, stepsPerEpoch: 3 };
const OPTIONS = { name: 'run', settings: [], totalSteps: 9, tokensPerStep: 1, stepsPerEpoch: 3 };

test('a run is inexact since the first step that anybody found wrong has contributed to', () => {
  expect(inexactOf(steps(1, 9))).toBeUndefined();
  const events = [...steps(1, 6), mark(4, 'bob'), mark(2, 'eve'), mark(3, 'bob'), ...steps(7, 9)];
  const inexact = inexactOf(events);
  expect(inexact).toEqual({ since: 2, workers: ['bob', 'eve'] });
  if (inexact) expect(inexactText(inexact)).toBe('not exact since step 2: bob, eve lied or have faulty memory');
  expect(inexactText({ since: 7, workers: ['bob'] })).toBe('not exact since step 7: bob lied or has faulty memory');
});

test('a mark is gone once the run went back before it, and stays where it went back no further', () => {
  const before = [...steps(1, 6), mark(4, 'bob')];
  expect(inexactOf([...before, ...steps(4, 9)])).toBeUndefined();
  expect(inexactOf([...before, ...steps(5, 9)])).toEqual({ since: 4, workers: ['bob'] });
});

test('first steps are of each person the earliest, as far as the run is, whatever else its metrics hold', () => {
  const events = [
    ...steps(1, 2),
    contributed(4, '10.0.0.1'),
    contributed(2, '10.0.0.1'),
    contributed(3, '10.0.0.2'),
    contributed(6, '10.0.0.3'),
  ];
  const damaged = ['{"event":"contri', '{"event":"contributed","step":"one","person":1}', '"contributed"', ''];
  const text = [...events.map((event) => JSON.stringify(event)), ...damaged].join('\n');
  expect(firstStepsIn(text.split('\n'), 5)).toEqual(
    new Map([
      ['10.0.0.1', 2],
      ['10.0.0.2', 3],
    ]),
  );
});

test('the log of a run keeps marks and first steps of what the run goes on from, whenever they were written', async () => {
  const folder = workFolder();
  const log = new EventLog(folder.path);
  for (const event of [
    ...steps(1, 5),
    contributed(5, 'a'),
    contributed(4, 'b'),
    mark(3, 'bob'),
    mark(5, 'eve'),
    ...steps(6, 6),
  ])
    log.append(event);
  await log.cutBack(4);
  log.append(mark(4, 'late'));
  log.close();
  const text = readFileSync(`${folder.path}/metrics.jsonl`, 'utf8');
  const kept = parseMetrics(text);
  expect(inexactOf(kept)).toEqual({ since: 3, workers: ['bob', 'late'] });
  expect(firstStepsIn(text.split('\n'), 9)).toEqual(new Map([['b', 4]]));
  folder.remove();
});

test('events of a cluster come back as they were written, are told where they are news, and keep every field', () => {
  const awaited: MetricsEvent = { event: 'awaited', step: 3, worker: 'bob', reason: 'for 12s' };
  const events = [contributed(2, '10.0.0.1'), mark(3, 'bob'), awaited];
  expect(parseMetrics(events.map((event) => `${JSON.stringify(event)}\n`).join(''))).toEqual(events);
  expect(events.map((event) => describe(event, INFO))).toEqual([
    undefined,
    'inexact  bob   step 3   the owner has another sum',
    'awaited  bob   step 3   for 12s',
  ]);
});

test('the report says since when a run is not exact, and who is behind it, as text', () => {
  const html = htmlReport([...steps(1, 5), mark(3, '<b>bob'), contributed(1, '10.0.0.1')], OPTIONS);
  expect(html).toContain('not exact since step 3: &#60;b&#62;bob lied or has faulty memory');
  expect(html).not.toContain('10.0.0.1');
  expect(htmlReport(steps(1, 5), OPTIONS)).not.toContain('not exact since');
});

test('the page shows the mark of a run, also of an earlier start, and whom its step waits for', () => {
  const telemetry = new Telemetry(FACTS, [...steps(1, 5), mark(3, 'bob')]);
  expect(telemetry.status.inexact).toBe('not exact since step 3: bob lied or has faulty memory');
  telemetry.event({ event: 'awaited', step: 6, worker: 'eve', reason: 'for 12s' });
  expect(telemetry.status.awaited).toBe('step 6 waits for eve for 12s');
  telemetry.event(step(6, 3));
  expect(telemetry.status.awaited).toBeUndefined();
  telemetry.event(mark(2, 'eve'));
  expect(telemetry.status.inexact).toBe('not exact since step 2: bob, eve lied or have faulty memory');
  telemetry.event(contributed(7, '10.0.0.1'));
  const told = JSON.stringify([telemetry.snapshot(), telemetry.update()]);
  expect(told).toContain('for 12s');
  expect(told).not.toContain('10.0.0.1');
  expect(new Telemetry(FACTS, steps(1, 5)).status).not.toHaveProperty('inexact');
});
