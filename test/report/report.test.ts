import { expect, it } from 'vitest';
import { parseMetrics } from '../../src/report/metrics.js';
import { htmlReport } from '../../src/report/report.js';

const EVENTS = [
  { event: 'join', step: 0, worker: '<b>a</b>', reason: 'bit class 1' },
  ...[1, 2, 3].map((step) => ({ event: 'step', step, loss: 4 - step, tokens: 64, tokensPerSecond: 32, lr: 1e-3 })),
  { event: 'eval', step: 3, trainLoss: 1.234, valLoss: 1.456, tokensSeen: 192 },
  { event: 'sample', step: 3, text: '<script>alert(1)</script> & "whales"\u001b[2J' },
  { event: 'checkpoint', step: 3, digest: 'd'.repeat(64), path: 'checkpoints/3' },
  {
    event: 'workers',
    step: 3,
    workers: [{ name: 'a', adapter: 'none', bitClass: 'c', tokens: 192, computeMs: 1000 }],
  },
  { event: 'done', step: 3, digest: 'd'.repeat(64), seconds: 6 },
];
const OPTIONS = {
  name: 'a <run>',
  settings: [['Seed', '42']] as const,
  totalSteps: 3,
  tokensPerStep: 64,
  stepsPerEpoch: 3,
};
const report = (events: readonly object[]) =>
  htmlReport(parseMetrics(events.map((event) => JSON.stringify(event)).join('\n')), OPTIONS);

it('a report holds curves, samples, workers, throughput, configuration and digests in one file', () => {
  const html = report(EVENTS);
  expect(html.match(/<svg/g)).toHaveLength(3);
  for (const text of ['1.234', '1.456', '3 of 3', 'd'.repeat(64), 'whales', '42', '>192<', 'tokens/s from'])
    expect(html.toLowerCase()).toContain(text);
});

it('loads nothing and runs nothing, whatever a sample or a name says', () => {
  const html = report(EVENTS);
  expect(html).toContain("default-src 'none'");
  expect(html).not.toMatch(/<script|<b>a<|<run>/);
  expect(html).not.toContain('\u001b');
  expect(html).not.toMatch(/(src|href)=/);
});

it('a run of nothing yet has a report as well', () => {
  expect(report([])).toContain('none yet');
});
