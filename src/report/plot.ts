import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';
import { formatLoss } from './format.js';
import type { LossCurves } from './loss-curves.js';
import { drawIn, type Element, standAlone } from './svg.js';
import { thin } from './thin.js';
import { countTick } from './ticks.js';

export interface LossPlotOptions {
  readonly tokensPerStep: number;
  readonly stepsPerEpoch: number;
  readonly title: string;
  readonly theme?: 'light' | 'dark';
  /** For a phone: half the width, with letters of the same size. */
  readonly narrow?: boolean;
}

interface Point {
  readonly epoch: number;
  readonly loss: number;
}

const WIDE = { width: 760, height: 440, ticks: 10, margin: { top: 104, right: 32, bottom: 56, left: 64 } };
const NARROW = { width: 380, height: 400, ticks: 5, margin: { top: 104, right: 22, bottom: 56, left: 48 } };
/** Height of a line of the legend; average width of its letters and of the title's. */
const LEGEND_LINE = 20;
const LETTER = 7;
const TITLE_LETTER = 9;
/** More points would not be visible, provided that no spike is lost. */
const MOST_POINTS = 400;
/** Evaluations are marked with dots up to this number. */
const MOST_DOTS = 40;
const THEMES = {
  light: { paper: '#ffffff', ink: '#1f2328', faint: '#59636e', grid: '#e4e8ec', train: '#1668c7', val: '#d9480f' },
  dark: { paper: '#0d1117', ink: '#e6edf3', faint: '#9198a1', grid: '#262c36', train: '#58a6ff', val: '#ff9a5c' },
};

/**
 * Training loss (solid) and validation loss (dashed) over epochs, with tokens seen as a second axis on top, after
 * `plot_losses` in "Build a Large Language Model (From Scratch)", chapter 5. The loss of every step is a thin line
 * behind them. Returns a standalone SVG with its own fonts and colours, also for an <img>. Values that are not finite
 * are left out.
 */
export function lossPlot(curves: LossCurves, options: LossPlotOptions): string {
  const { tokensPerStep, stepsPerEpoch, title, theme = 'light', narrow = false } = options;
  const { width, height: leastHeight, ticks: mostTicks, margin } = narrow ? NARROW : WIDE;
  const colors = THEMES[theme];
  const { document } = parseHTML('<!doctype html><html><body></body></html>');

  const point = (step: number, loss: number): Point => ({ epoch: step / stepsPerEpoch, loss });
  const { evaluations } = curves;
  const steps = curve(curves.steps(point));
  const train = curve(evaluations.map((e) => point(e.step, e.trainLoss)));
  const val = curve(evaluations.map((e) => point(e.step, e.valLoss ?? Number.NaN)));
  const all = [...steps, ...train, ...val];
  const lastEpoch = all.reduce((most, { epoch }) => Math.max(most, epoch), 0) || 1;
  const losses = all.map(({ loss }) => loss);
  const [low, high] = lossRange(losses);

  const legend = legendOf({ steps, train, val }, colors.train, colors.val, margin.left, width);
  const [top, height] = [margin.top + legend.below, leastHeight + legend.below];
  const tokensPerEpoch = tokensPerStep * stepsPerEpoch;
  const epochTicks = ticks(0, lastEpoch, mostTicks);
  const tokenTicks = ticks(0, lastEpoch * tokensPerEpoch, mostTicks).map((tokens) => tokens / tokensPerEpoch);
  const lossTicks = ticks(low, high, 8);
  const line = (points: Point[], stroke: string, extra: Plot.LineOptions) =>
    Plot.line(points, { x: 'epoch', y: 'loss', stroke, strokeLinejoin: 'round', ...extra });
  const dots = (points: Point[], color: string) =>
    Plot.dot(points.length <= MOST_DOTS ? points : [], { x: 'epoch', y: 'loss', r: 2.6, fill: color });
  const axis = { fill: colors.ink, stroke: colors.faint, fontSize: 12, label: null };

  const svg: Element = Plot.plot({
    document,
    width,
    height,
    marginTop: top,
    marginRight: margin.right,
    marginBottom: margin.bottom,
    marginLeft: margin.left,
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
  const center = (margin.left + width - margin.right) / 2;
  const middle = (top + height - margin.bottom) / 2;
  const left = { fill: colors.ink, 'text-anchor': 'start' };
  const label = { fill: colors.faint, 'font-size': 13, 'text-anchor': 'middle' };
  const room = Math.floor((width - margin.left) / TITLE_LETTER);
  const shortTitle = title.length > room ? `${title.slice(0, room - 1)}…` : title;

  standAlone(svg, draw, { title, width, height, ink: colors.ink, paper: colors.paper });

  svg.append(
    draw('text', { ...left, x: margin.left, y: 27, 'font-size': 16, 'font-weight': 600 }, shortTitle),
    draw('text', { ...label, x: center, y: top - 28 }, 'Tokens seen'),
    draw('text', { ...label, x: center, y: height - 14 }, 'Epochs'),
    draw(
      'text',
      { ...label, transform: `translate(${narrow ? 13 : 20} ${middle}) rotate(-90)` },
      'Loss (nats a token)',
    ),
  );
  for (const { x, y, text, stroke } of legend.entries) {
    svg.append(draw('line', { x1: x, x2: x + 28, y1: y, y2: y, ...stroke }));
    svg.append(draw('text', { ...left, x: x + 35, y: y + 4.5, 'font-size': 13 }, text));
  }
  if (all.length === 0)
    svg.append(draw('text', { ...label, x: center, y: middle, 'font-size': 14 }, 'Nothing measured yet'));
  return `${svg.outerHTML}\n`;
}

/**
 * The legend's entries, on one line or below each other where they do not fit. `below`: the height that they then take.
 */
function legendOf(
  { steps, train, val }: Readonly<Record<'steps' | 'train' | 'val', readonly Point[]>>,
  trainColor: string,
  valColor: string,
  left: number,
  width: number,
) {
  const newest = (points: readonly Point[]) => formatLoss(points[points.length - 1].loss);
  const named: [string, Record<string, string | number>][] = [];
  if (train.length > 0) named.push([`Training loss ${newest(train)}`, { stroke: trainColor, 'stroke-width': 2.2 }]);
  if (val.length > 0)
    named.push([
      `Validation loss ${newest(val)}`,
      { stroke: valColor, 'stroke-width': 2.2, 'stroke-dasharray': '7 4' },
    ]);
  if (steps.length > 0)
    named.push(['Loss of each step', { stroke: trainColor, 'stroke-width': 1, 'stroke-opacity': 0.5 }]);
  let [x, below] = [left, 0];
  const entries = named.map(([text, stroke]) => {
    const wide = 35 + LETTER * text.length;
    if (x > left && x + wide > width) [x, below] = [left, below + LEGEND_LINE];
    const entry = { x, y: 47 + below, text, stroke };
    x += wide + 24;
    return entry;
  });
  return { entries, below };
}

/** The finite points; of many, those that show the same curve. */
function curve(points: readonly Point[]): Point[] {
  const finite = points.filter(({ loss }) => Number.isFinite(loss));
  return thin(finite, MOST_POINTS, [({ loss }) => loss]);
}

/** From the least to the greatest loss with a margin, at least 0.4 in all, also for one point. */
function lossRange(losses: readonly number[]): [number, number] {
  if (losses.length === 0) return [0, 1];
  const low = losses.reduce((a, b) => Math.min(a, b));
  const high = losses.reduce((a, b) => Math.max(a, b));
  const air = Math.max(0.05 * (high - low), (0.4 - (high - low)) / 2);
  return [Math.max(0, low - air), high + air];
}

/** Ticks from `begin` to `end`: multiples of the least of 1, 2, 5, 10, 20 ... that gives at most `most` intervals. */
function ticks(begin: number, end: number, most: number): number[] {
  const power = 10 ** Math.floor(Math.log10((end - begin) / most));
  const step = power * ([1, 2, 5].find((factor) => (end - begin) / (factor * power) <= most * (1 + 1e-9)) ?? 10);
  const list: number[] = [];
  for (let i = Math.ceil(begin / step - 1e-9); i * step <= end * (1 + 1e-9); i++)
    list.push(Number((i * step).toPrecision(12)));
  return list;
}
