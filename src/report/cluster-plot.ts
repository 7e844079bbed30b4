import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';
import { drawIn, type Element, standAlone } from './svg.js';

/** One setting of `bench cluster`: the milliseconds of a step by part. */
export interface ClusterBar {
  readonly label: string;
  /** The text at the end of the bar. */
  readonly figures: string;
  readonly worker: {
    readonly compute: number;
    readonly upload: number;
    readonly wait: number;
    readonly download: number;
  };
  readonly coordinator: { readonly sum: number; readonly update: number };
}

const WIDTH = 900;
const ROW = 44;
const MARGIN = { top: 78, right: 200, bottom: 52, left: 200 };
const COLORS = { paper: '#ffffff', ink: '#1f2328', faint: '#59636e', grid: '#e4e8ec' };
const PARTS = {
  compute: { color: '#1668c7', name: 'computing' },
  upload: { color: '#e8890c', name: 'upload' },
  wait: { color: '#d5dae0', name: 'waiting' },
  download: { color: '#2f9e44', name: 'download' },
  sum: { color: '#9c36b5', name: 'coordinator: sums' },
  update: { color: '#c2255c', name: 'coordinator: update' },
} as const;

interface BarSegment {
  readonly from: number;
  readonly to: number;
  readonly row: string;
  readonly part: keyof typeof PARTS;
}

/**
 * A step of each setting as two bars: a worker's time, and below it, thin, the coordinator's. Returns a standalone SVG
 * with its own fonts and colours, also for an <img>.
 */
export function clusterPlot(bars: readonly ClusterBar[], title: string): string {
  const { document } = parseHTML('<!doctype html><html><body></body></html>');
  const height = MARGIN.top + MARGIN.bottom + ROW * Math.max(1, bars.length);
  // Labels may repeat, so rows are keyed by index.
  const rows = bars.map((_, i) => String(i));
  const labelOf = (row: string) => bars[Number(row)].label;
  const stack = (row: number, parts: Readonly<Record<string, number>>) => {
    let at = 0;
    return Object.entries(parts).map(([part, ms]): BarSegment => {
      const from = at;
      at += ms;
      return { from, to: at, row: rows[row], part: part as keyof typeof PARTS };
    });
  };
  const worker = bars.flatMap((bar, i) => stack(i, bar.worker));
  const coordinator = bars.flatMap((bar, i) => stack(i, bar.coordinator));
  const longest = [...worker, ...coordinator].reduce((most, { to }) => Math.max(most, to), 0) || 1;
  const ends = bars.map((bar, i) => ({
    row: rows[i],
    at: Object.values(bar.worker).reduce((a, b) => a + b, 0),
    text: bar.figures,
  }));
  const bar = (segments: BarSegment[], insetTop: number, insetBottom: number) =>
    Plot.barX(segments, {
      x1: 'from',
      x2: 'to',
      y: 'row',
      fill: (segment: BarSegment) => PARTS[segment.part].color,
      insetTop,
      insetBottom,
    });
  const svg: Element = Plot.plot({
    document,
    width: WIDTH,
    height,
    marginTop: MARGIN.top,
    marginRight: MARGIN.right,
    marginBottom: MARGIN.bottom,
    marginLeft: MARGIN.left,
    x: { domain: [0, longest] },
    y: { domain: rows, padding: 0.2 },
    marks: [
      Plot.gridX({ stroke: COLORS.grid, strokeOpacity: 1 }),
      Plot.axisX({ fill: COLORS.ink, stroke: COLORS.faint, fontSize: 12, label: null, tickSize: 5 }),
      Plot.axisY({ fill: COLORS.ink, fontSize: 13, label: null, tickSize: 0, tickFormat: labelOf }),
      bar(worker, 0, 10),
      bar(coordinator, 27, 0),
      Plot.text(ends, {
        x: 'at',
        y: 'row',
        text: 'text',
        fill: COLORS.ink,
        fontSize: 13,
        textAnchor: 'start',
        dx: 8,
        dy: -4,
      }),
    ],
  });

  const draw = drawIn(document);
  standAlone(svg, draw, { title, width: WIDTH, height, ink: COLORS.ink, paper: COLORS.paper });
  const left = { fill: COLORS.ink, 'text-anchor': 'start' };
  svg.append(draw('text', { ...left, x: 24, y: 28, 'font-size': 16, 'font-weight': 600 }, title));
  let x = 24;
  for (const { color, name } of Object.values(PARTS)) {
    svg.append(draw('rect', { x, y: 43, width: 14, height: 12, fill: color }));
    svg.append(draw('text', { ...left, x: x + 20, y: 53.5, 'font-size': 13 }, name));
    x += 20 + 7.2 * name.length + 20;
  }
  const label = { fill: COLORS.faint, 'font-size': 13, 'text-anchor': 'middle' };
  const center = (MARGIN.left + WIDTH - MARGIN.right) / 2;
  svg.append(draw('text', { ...label, x: center, y: height - 12 }, 'Milliseconds of a step'));
  return `${svg.outerHTML}\n`;
}
