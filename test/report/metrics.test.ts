import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { formatCount, formatDuration } from '../../src/report/format.js';
import { type MetricsEvent, parseMetrics, readMetrics } from '../../src/report/metrics.js';
import { evaluation, step } from './helpers.js';

const EVENTS: MetricsEvent[] = [
  step(1, 9.8),
  evaluation(1, 9.7, null),
  { event: 'sample', step: 1, text: 'two\nlines' },
  { event: 'checkpoint', step: 1, digest: 'd', path: 'p' },
  { event: 'resume', step: 1, worker: 'w1' },
  { event: 'done', step: 1, digest: 'd', seconds: 2 },
];
const TEXT = EVENTS.map((event) => `${JSON.stringify(event)}\n`).join('');
const corrupt = (message: RegExp) =>
  expect.objectContaining({ code: 'LT_CHECKPOINT_CORRUPT', message: expect.stringMatching(message) });

test('every event comes back as it was written', () => {
  expect(parseMetrics(TEXT)).toEqual(EVENTS);
});

test('a file cut off anywhere gives the events whose lines are whole', () => {
  fc.assert(
    fc.property(fc.nat(TEXT.length), (length) => {
      const cut = TEXT.slice(0, length);
      const whole = (JSON.stringify(EVENTS[0]).length <= length ? `${cut}\n` : cut).split('}\n').length - 1;
      expect(parseMetrics(cut)).toEqual(EVENTS.slice(0, whole));
    }),
  );
});

test('a loss that is no number is NaN again; kinds not known yet are left out', () => {
  const text = `${JSON.stringify(step(3, Number.NaN))}\n{"event":"audit","step":3}\n`;
  expect(parseMetrics(text)).toEqual([step(3, Number.NaN)]);
});

test('a line that is no event is refused with its file and number', () => {
  expect(() => parseMetrics('{"event":\n{}\n', 'a/metrics.jsonl')).toThrow(
    corrupt(/^a\/metrics.jsonl, line 1, .*JSON/),
  );
  expect(() => parseMetrics(`${TEXT}7\n`)).toThrow(corrupt(/line 7, .*no event/));
  expect(() => parseMetrics('{"event":"step","step":"one"}\n')).toThrow(corrupt(/line 1, .*step, loss/));
});

test('a run without metrics yet has no events; a file is read from the disk', () => {
  const dir = mkdtempSync(join(tmpdir(), 'lantrain-metrics-'));
  const path = join(dir, 'metrics.jsonl');
  expect(readMetrics(path)).toEqual([]);
  writeFileSync(path, TEXT);
  expect(readMetrics(path)).toEqual(EVENTS);
  expect(() => readMetrics(dir)).toThrow(corrupt(/cannot be read/));
  rmSync(dir, { recursive: true });
});

test('counts have three digits at most, durations two units', () => {
  expect([0, 0.123, 9.96, 512.4, 999.6, 1234, 999_600, 162_419_712, 2.5e9].map(formatCount)).toEqual(
    ['0', '0.12', '10', '512', '1k', '1.23k', '1M', '162M', '2.5G'], // biome-ignore format: one row
  );
  expect([0.4, 59.6, 130, 3599.7, 11_100, 93_600, Number.NaN].map(formatDuration)).toEqual(
    ['0s', '1m 00s', '2m 10s', '1h 00m', '3h 05m', '1d 02h', '?'], // biome-ignore format: one row
  );
});
