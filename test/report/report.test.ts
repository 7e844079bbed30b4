import { expect, test } from 'vitest';
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

test('a report holds curves, samples, workers, throughput, configuration and digests in one file', () => {
  const html = report(EVENTS);
  // Loss plots for light and dark, wide and narrow, and the throughput plot.
  expect(html.match(/<svg/g)).toHaveLength(5);
  for (const text of ['1.234', '1.456', 'steps of 3', 'd'.repeat(64), 'whales', '42', '>192<', 'tokens/s from'])
    expect(html.toLowerCase()).toContain(text);
});

test('a report loads nothing and runs nothing, whatever a sample or a name says', () => {
  const html = report(EVENTS);
  expect(html).toContain("default-src 'none'");
  expect(html).not.toMatch(/<script|<b>a<|<run>/);
  expect(html).not.toContain('\u001b');
  expect(html).not.toMatch(/(src|href)=/);
});

test('a run of nothing yet has a report as well', () => {
  expect(report([])).toContain('none yet');
});

const steps = (count: number, change: (step: number) => object = () => ({})) =>
  Array.from({ length: count }, (_, i) => ({
    ...{ event: 'step', step: i + 1, loss: 3, tokens: 64, tokensPerSecond: 32, lr: 1e-3 },
    ...change(i + 1),
  }));
const workersEvent = (step: number, ...workers: readonly (readonly [string, string, number, number])[]) => ({
  event: 'workers',
  step,
  workers: workers.map(([name, bitClass, tokens, computeMs]) => ({
    name,
    adapter: 'none',
    bitClass,
    tokens,
    computeMs,
  })),
});
/** Texts of the cells of a section's first table. */
const cellsOf = (html: string, section: string) => {
  const [, table = ''] = new RegExp(`<h2>${section}</h2>\\n.*?<tbody>(.*?)</tbody>`, 's').exec(html) ?? [];
  return table.split('</tr>').flatMap((row) => {
    const cells = [...row.matchAll(/<t[hd][^>]*>(.*?)<\/t[hd]>/g)].map(([, text]) => text);
    return cells.length > 0 ? [cells] : [];
  });
};

test("workers' figures are those of all starts of the run", () => {
  const html = report([
    ...steps(1),
    workersEvent(1, ['a', 'x-1', 1000, 1000], ['b', 'x-1', 500, 1000]),
    ...steps(2).slice(1),
    workersEvent(2, ['a', 'x-1', 3000, 1000]),
    ...steps(3).slice(2),
    workersEvent(3, ['a', 'y-2', 10, 10]),
  ]);
  expect(cellsOf(html, 'Workers')).toEqual([
    ['a<br><small>none</small>', 'A x-1', '4k', '2k'],
    ['b<br><small>none</small>', 'A x-1', '500', '500'],
    ['a<br><small>none</small>', 'B y-2', '10', '1k'],
  ]);
});

test('a run stays marked as mixed when who made it so has left and is in no table', () => {
  const mixed = { event: 'mixed', step: 1, worker: 'c', reason: "bit class z-9, the owner's is x-1: not exact" };
  const html = report([
    mixed,
    ...steps(1),
    { event: 'leave', step: 1, worker: 'c' },
    workersEvent(1, ['a', 'x-1', 9, 9]),
  ]);
  expect(html).toContain('the digest is not exact');
  expect(html).toMatch(/A x-1.*x-1.*B z-9.*z-9/s);
});

test('a report of a run that was killed and went on counts each step and checkpoint once', () => {
  const first = [
    ...steps(2),
    { event: 'checkpoint', step: 2, digest: 'e'.repeat(64), path: 'p' },
    ...steps(3).slice(2),
  ];
  const again = [{ event: 'checkpoint', step: 2, digest: 'f'.repeat(64), path: 'p' }, ...steps(3).slice(2)];
  const html = report([...first, ...again]);
  expect(cellsOf(html, 'Checkpoints')).toEqual([['2', 'f'.repeat(64)]]);
  expect(html).toContain('<dt>Time in steps</dt><dd>6s</dd>');
  expect(html).toContain('Tokens/s from step 1 to 3');
});

test('a report says how the run ended, and nothing of what is not known', () => {
  expect(report(EVENTS)).toContain('Done.');
  expect(report(steps(2))).toContain('Not finished.');
  expect(report([...steps(2), { event: 'stopped', step: 2 }])).toContain('Stopped before its last step.');
  const failed = report([...steps(2), { event: 'failed', step: 2, reason: 'the disk <is> full.' }]);
  expect(failed).toContain('Failed: the disk &#60;is&#62; full.');
  for (const events of [[], steps(2)]) expect(report(events)).not.toMatch(/<dd>(NaN|\?|undefined)/);
  expect(report(steps(2))).toContain('<dt>Validation loss</dt><dd>–</dd>');
});

test('a short spell of speed shows in the throughput of thousands of steps', () => {
  const html = report(steps(5000, (step) => ({ tokensPerSecond: step === 2500 ? 4000 : step === 1000 ? 1 : 40 })));
  expect(html).toContain('the fastest step had 4k');
  const band = /<polygon class="band" points="([^"]*)"/.exec(html)?.[1] ?? '';
  const heights = band.split(' ').map((point) => Number(point.split(',')[1]));
  expect(Math.min(...heights)).toBe(8);
  expect(Math.max(...heights)).toBe(120);
});
