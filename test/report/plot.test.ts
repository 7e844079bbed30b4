import { parseHTML } from 'linkedom';
import { expect, test } from 'vitest';
import { LossCurves } from '../../src/report/loss-curves.js';
import type { MetricsEvent } from '../../src/report/metrics.js';
import { lossPlot } from '../../src/report/plot.js';
import { evaluation, step } from './helpers.js';

const OPTIONS = { tokensPerStep: 512, stepsPerEpoch: 9, title: 'verdict <1> & more' };

interface Drawn {
  getAttribute(name: string): string | null;
  readonly textContent: string;
}
function draw(events: MetricsEvent[], options: Partial<Parameters<typeof lossPlot>[1]> = {}) {
  const svg = lossPlot(LossCurves.of(events), { ...OPTIONS, ...options });
  const { document } = parseHTML(`<body>${svg}</body>`);
  const all = (selector: string): Drawn[] => [...document.querySelectorAll(selector)];
  const texts = all('text').map((element) => element.textContent);
  const group = (name: string) => all(`g[aria-label="${name}"] text`).map((element) => element.textContent);
  /** Points of each line drawn, in pixels. */
  const lines = all('g[aria-label="line"] path').map((path) =>
    [...(path.getAttribute('d') ?? '').matchAll(/[ML]?(-?[\d.e-]+),(-?[\d.e-]+)/g)].map(([, x, y]) => [+x, +y]),
  );
  /** Where a loss lies, by the grid of the vertical axis. */
  const [low, high] = [0, 1].map((end) => {
    const marks = [...svg.matchAll(/translate\([\d.]+,([\d.]+)\)"[^>]*>([\d.]+)<\/text>/g)];
    const axis = marks.filter(([, , text]) => group('y-axis tick label').includes(text));
    const [, y, value] = axis[end === 0 ? 0 : axis.length - 1] ?? [];
    return { y: Number(y), value: Number(value) };
  });
  const yOf = (loss: number) => low.y + ((loss - low.value) / (high.value - low.value)) * (high.y - low.y);
  return {
    yOf,
    svg,
    texts,
    group,
    lines,
    dashes: all('g[aria-label="line"]').map((g) => g.getAttribute('stroke-dasharray')),
  };
}

const run = (steps: number, every: number): MetricsEvent[] =>
  Array.from({ length: steps }, (_, i) => i + 1).flatMap((at) => [
    step(at, 10 - at / steps),
    ...(at % every === 0 ? [evaluation(at, 10 - at / steps, 10)] : []),
  ]);

test('the lecture’s plot has epochs below, tokens seen above, training solid and validation dashed', () => {
  const { svg, texts, group, lines, dashes } = draw(run(90, 5));
  expect(svg).toMatch(/^<svg [^>]*xmlns="http:\/\/www.w3.org\/2000\/svg"/);
  expect(svg).toMatch(/^<svg [^>]*viewBox="0 0 \d+ \d+"/);
  expect(svg).not.toMatch(/<style|class=|var\(|currentColor|NaN|undefined/);
  for (const text of ['Epochs', 'Tokens seen', 'Loss (nats a token)', 'Training loss 9.000', 'Validation loss 10.000'])
    expect(texts).toContain(text);
  expect(svg).toContain('verdict &lt;1&gt; &amp; more');
  expect(group('x-axis tick label')).toEqual([
    ...['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '10'],
    ...['0', '5k', '10k', '15k', '20k', '25k', '30k', '35k', '40k', '45k'],
  ]);
  expect(lines.map((points) => points.length)).toEqual([90, 18, 18]);
  expect(dashes).toEqual([null, null, '7 4']);
});

test('both axes say the same place: 9 steps of 512 tokens are one epoch', () => {
  const { svg } = draw(run(90, 5));
  const at = (label: string) =>
    Number(svg.match(new RegExp(`translate\\(([\\d.]+),[\\d.]+\\)"[^>]*>${label}</text>`))?.[1]);
  expect((at('45k') - at('0')) / (at('10') - at('0'))).toBeCloseTo(45_000 / (90 * 512), 6);
});

test('a plot without validation has no line and no legend of it', () => {
  const { texts, lines } = draw([step(1, 5), step(2, 4), evaluation(1, 5, null), evaluation(2, 4, null)]);
  expect(texts.join()).not.toContain('Validation');
  expect(lines).toHaveLength(2);
});

test('a plot leaves out what is not finite', () => {
  const holes = [step(1, 5), step(2, Number.NaN), step(3, 4), evaluation(3, Number.POSITIVE_INFINITY, Number.NaN)];
  const { svg, lines, texts } = draw(holes);
  expect(svg).not.toMatch(/NaN|Infinity/);
  expect(lines.map((points) => points.length)).toEqual([2]);
  expect(texts.join()).not.toMatch(/Training|Validation/);
});

test.each<[string, MetricsEvent[]]>([
  ['nothing', []],
  ['one step', [step(1, 5)]],
  ['one evaluation', [evaluation(1, 5, 5)]],
])('%s is drawn without a fault', (what, events) => {
  const { svg, texts } = draw(events);
  expect(svg).not.toMatch(/NaN|Infinity|undefined/);
  expect(texts.includes('Nothing measured yet')).toBe(what === 'nothing');
  expect((svg.match(/<circle/g) ?? []).length).toBe(what === 'one evaluation' ? 2 : 0);
});

test('ten thousand steps are thinned to a small file that keeps both ends and every spike', () => {
  const events = run(10_000, 10).map((event) => {
    if (event.event === 'step' && event.step === 5003) return { ...event, loss: 99 };
    return event.event === 'eval' && event.step === 7770 ? { ...event, valLoss: 0.5 } : event;
  });
  const { svg, texts, lines, yOf } = draw(events);
  expect(svg.length).toBeLessThan(60_000);
  for (const points of lines) expect(points.length).toBeLessThanOrEqual(401);
  const [steps, train, val] = lines;
  expect(steps.at(-1)).toEqual(train.at(-1));
  expect(texts).toContain('Loss of each step');
  expect(texts).toContain('Training loss 9.000');
  // y falls as the loss rises.
  expect(Math.min(...steps.map(([, y]) => y))).toBeCloseTo(yOf(99), 1);
  expect(Math.max(...val.map(([, y]) => y))).toBeCloseTo(yOf(0.5), 1);
});

test('steps that were computed again are drawn once, in one course', () => {
  const [first, again] = [run(60, 5), run(90, 5).filter((event) => (event.step ?? 0) > 40)];
  const { lines } = draw([...first, ...again]);
  expect(lines.map((points) => points.length)).toEqual([90, 18, 18]);
  for (const points of lines) expect(points.map(([x]) => x)).toEqual(points.map(([x]) => x).toSorted((a, b) => a - b));
});

test('a tick of half a token says so', () => {
  const labels = draw(run(4, 2), { tokensPerStep: 1, stepsPerEpoch: 4 }).group('x-axis tick label');
  expect(labels.slice(labels.lastIndexOf('0'))).toEqual(['0', '0.5', '1', '1.5', '2', '2.5', '3', '3.5', '4']);
});

test('a plot for a phone is all on half the width: names below each other, no text over the edge', () => {
  const events = [...run(90, 5), evaluation(90, 9, 12.345)];
  const { svg, lines } = draw(events, { narrow: true, title: 'a title that is longer than a phone is wide, by far' });
  const width = Number(/viewBox="0 0 (\d+) /.exec(svg)?.[1]);
  expect(width).toBeLessThan(400);
  expect(lines.map((points) => points.length)).toEqual([90, 18, 18]);
  const entries = [...svg.matchAll(/<text([^>]*)>([^<]*)<\/text>/g)].flatMap(([, attributes, text]) => {
    const place = (name: string) => Number(new RegExp(`(?<![\\w-])${name}="([\\d.]+)"`).exec(attributes)?.[1]);
    return /^(a title|Training|Validation|Loss of)/.test(text) ? [{ x: place('x'), y: place('y'), text }] : [];
  });
  expect(entries).toHaveLength(4);
  for (const { x, text } of entries) expect(x + 6.2 * text.length, text).toBeLessThan(width);
  const ys = entries.map(({ y }) => y);
  expect(new Set(ys).size).toBeGreaterThan(2);
  const plotTop = Math.min(...lines.flat().map(([, y]) => y));
  expect(plotTop).toBeGreaterThan(Math.max(...ys) + 20);
});

test('a dark page gets a dark paper', () => {
  expect(draw(run(9, 3), { theme: 'dark' }).svg).toContain('fill="#0d1117"');
  expect(draw(run(9, 3)).svg).toContain('fill="#ffffff"');
});
