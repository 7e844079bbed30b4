import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';
import { courseOf } from './course.js';
import { formatLoss } from './format.js';
import type { MetricsEvent } from './metrics.js';
import { drawIn, type Element, standAlone } from './svg.js';
import { thin } from './thin.js';
import { countTick } from './ticks.js';

export interface LossPlotOptions {
  readonly tokensPerStep: number;
  readonly stepsPerEpoch: number;
  readonly title: string;
  readonly theme?: 'light' | 'dark';
}

interface Point {
  readonly epoch: number;
  readonly loss: number;
}

const WIDTH = 760;
const HEIGHT = 440;
const MARGIN = { top: 104, right: 32, bottom: 56, left: 64 };
/** More points than this show no more on the paper, if they have every spike. */
const MOST_POINTS = 400;
/** Up to so many evaluations each one is marked. */
const MOST_DOTS = 40;
const THEMES = {
  light: { paper: '#ffffff', ink: '#1f2328', faint: '#59636e', grid: '#e4e8ec', train: '#1668c7', val: '#d9480f' },
  dark: { paper: '#0d1117', ink: '#e6edf3', faint: '#9198a1', grid: '#262c36', train: '#58a6ff', val: '#ff9a5c' },
};

/**
 * Training (solid) and validation loss (dashed) against epochs, with tokens seen as the second axis on top, after
 * `plot_losses` in "Build a Large Language Model (From Scratch)", chapter 5; behind them the loss of every step, thin.
 * A standalone SVG with its own fonts and colours, fit for an <img>. What is not finite is left out.
 */
export function lossPlot(events: readonly MetricsEvent[], options: LossPlotOptions): string {
  const { tokensPerStep, stepsPerEpoch, title, theme = 'light' } = options;
  const colors = THEMES[theme];
  const { document } = parseHTML('<!doctype html><html><body></body></html>');

  const course = courseOf(events);
  const point = (step: number, loss: number): Point => ({ epoch: step / stepsPerEpoch, loss });
  const evaluations = course.filter((event) => event.event === 'eval');
  const steps = curve(course.flatMap((e) => (e.event === 'step' ? [point(e.step, e.loss)] : [])));
  const train = curve(evaluations.map((e) => point(e.step, e.trainLoss)));
  const val = curve(evaluations.map((e) => point(e.step, e.valLoss ?? Number.NaN)));
  const all = [...steps, ...train, ...val];
  const lastEpoch = all.reduce((most, { epoch }) => Math.max(most, epoch), 0) || 1;
  const losses = all.map(({ loss }) => loss);
  const [low, high] = lossRange(losses);

  const tokensPerEpoch = tokensPerStep * stepsPerEpoch;
  const epochTicks = ticks(0, lastEpoch, 10);
  const tokenTicks = ticks(0, lastEpoch * tokensPerEpoch, 10).map((tokens) => tokens / tokensPerEpoch);
  const lossTicks = ticks(low, high, 8);
  const line = (points: Point[], stroke: string, extra: Plot.LineOptions) =>
    Plot.line(points, { x: 'epoch', y: 'loss', stroke, strokeLinejoin: 'round', ...extra });
  const dots = (points: Point[], color: string) =>
    Plot.dot(points.length <= MOST_DOTS ? points : [], { x: 'epoch', y: 'loss', r: 2.6, fill: color });
  const axis = { fill: colors.ink, stroke: colors.faint, fontSize: 12, label: null };

  const svg: Element = Plot.plot({
    document,
    width: WIDTH,
    height: HEIGHT,
    marginTop: MARGIN.top,
    marginRight: MARGIN.right,
    marginBottom: MARGIN.bottom,
    marginLeft: MARGIN.left,
    x: { domain: [0, lastEpoch] },
    y: { domain: [low, high] },
    marks: [
      Plot.gridY(lossTicks, { stroke: colors.grid, strokeOpacity: 1 }),
      Plot.gridX(epochTicks, { stroke: colors.grid, strokeOpacity: 1 }),
      Plot.ruleY([low, high], { stroke: colors.faint }),
      Plot.axisX(epochTicks, { ...axis, tickSize: 5, tickFormat: String }),
      Plot.axisX(tokenTicks, {
        ...axis,
        anchor: 'top',
        tickSize: 5,
        tickFormat: (epoch: number) => countTick(epoch * tokensPerEpoch),
      }),
      Plot.axisY(lossTicks, { ...axis, tickSize: 0, tickFormat: String }),
      line(steps, colors.train, { strokeWidth: 1, strokeOpacity: 0.3 }),
      line(train, colors.train, { strokeWidth: 2.2 }),
      line(val, colors.val, { strokeWidth: 2.2, strokeDasharray: '7 4' }),
      dots(train, colors.train),
      dots(val, colors.val),
    ],
  });

  const draw = drawIn(document);
  const center = (MARGIN.left + WIDTH - MARGIN.right) / 2;
  const middle = (MARGIN.top + HEIGHT - MARGIN.bottom) / 2;
  const left = { fill: colors.ink, 'text-anchor': 'start' };
  const label = { fill: colors.faint, 'font-size': 13, 'text-anchor': 'middle' };

  standAlone(svg, draw, { title, width: WIDTH, height: HEIGHT, ink: colors.ink, paper: colors.paper });

  svg.append(
    draw('text', { ...left, x: MARGIN.left, y: 27, 'font-size': 16, 'font-weight': 600 }, title),
    draw('text', { ...label, x: center, y: MARGIN.top - 28 }, 'Tokens seen'),
    draw('text', { ...label, x: center, y: HEIGHT - 14 }, 'Epochs'),
    draw('text', { ...label, transform: `translate(20 ${middle}) rotate(-90)` }, 'Loss (nats a token)'),
  );
  const legend: readonly [string, Point[], Record<string, string | number>][] = [
    ['Training loss', train, { stroke: colors.train, 'stroke-width': 2.2 }],
    ['Validation loss', val, { stroke: colors.val, 'stroke-width': 2.2, 'stroke-dasharray': '7 4' }],
    ['Loss of each step', steps, { stroke: colors.train, 'stroke-width': 1, 'stroke-opacity': 0.5 }],
  ];
  let x = MARGIN.left;
  for (const [name, points, stroke] of legend) {
    if (points.length === 0) continue;
    const entry = points === steps ? name : `${name} ${formatLoss(points[points.length - 1].loss)}`;
    svg.append(draw('line', { x1: x, x2: x + 28, y1: 47, y2: 47, ...stroke }));
    svg.append(draw('text', { ...left, x: x + 35, y: 51.5, 'font-size': 13 }, entry));
    x += 35 + 7 * entry.length + 24;
  }
  if (all.length === 0)
    svg.append(draw('text', { ...label, x: center, y: middle, 'font-size': 14 }, 'Nothing measured yet'));
  return `${svg.outerHTML}\n`;
}

/** What is finite of them; of many points, those that show as much on the paper. */
function curve(points: readonly Point[]): Point[] {
  const finite = points.filter(({ loss }) => Number.isFinite(loss));
  return thin(finite, MOST_POINTS, [({ loss }) => loss]);
}

/** From the least to the greatest loss with some air, at least 0.4 in all: one point is a range too. */
function lossRange(losses: readonly number[]): [number, number] {
  if (losses.length === 0) return [0, 1];
  const low = losses.reduce((a, b) => Math.min(a, b));
  const high = losses.reduce((a, b) => Math.max(a, b));
  const air = Math.max(0.05 * (high - low), (0.4 - (high - low)) / 2);
  return [Math.max(0, low - air), high + air];
}

/** The multiples from `begin` to `end` of the least of 1, 2, 5, 10, 20, ... that makes at most `most` steps. */
function ticks(begin: number, end: number, most: number): number[] {
  const power = 10 ** Math.floor(Math.log10((end - begin) / most));
  const step = power * ([1, 2, 5].find((factor) => (end - begin) / (factor * power) <= most * (1 + 1e-9)) ?? 10);
  const list: number[] = [];
  for (let i = Math.ceil(begin / step - 1e-9); i * step <= end * (1 + 1e-9); i++)
    list.push(Number((i * step).toPrecision(12)));
  return list;
}
