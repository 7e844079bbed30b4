import uPlot from 'uplot';
import { formatCount, formatDuration } from '../../../src/report/format.js';
import type { Columns } from '../messages.js';
import { create, setText } from './dom.js';

export type Horizontal = 'step' | 'tokens' | 'time';

/** A curve of a chart. */
export interface Curve {
  readonly label: string;
  /** A custom property of the style sheet. */
  readonly color: string;
  readonly scale?: string;
  readonly width?: number;
  readonly dash?: number[];
  readonly points?: boolean;
  /** Drawn, but not named: an edge of a band. */
  readonly edge?: boolean;
  readonly format: (value: number) => string;
  /** Of the axis; else with as many decimals as its ticks need. */
  readonly formatTick?: (value: number) => string;
}

export interface ChartOptions {
  readonly curves: readonly Curve[];
  /** Pairs of curves (upper, lower, by index from 0) whose space between is filled. */
  readonly bands?: readonly (readonly [number, number])[];
  readonly height: number;
  /** Scales beside the one at the left, with their axis at the right. */
  readonly right?: string;
  readonly onZoom: (from: number, to: number) => void;
}

type Values = (number | null | undefined)[];
export type Table = [x: number[], ...Values[]];

const color = (element: Element, name: string) => getComputedStyle(element).getPropertyValue(name).trim();

/** A uPlot chart in `box` with a legend above it, drawn in the style sheet's colours. */
export class Chart {
  #plot: uPlot | undefined;
  #data: Table | undefined;
  #horizontal: Horizontal = 'step';
  readonly #values: HTMLElement[] = [];
  readonly #body: HTMLElement;

  constructor(
    readonly box: HTMLElement,
    readonly options: ChartOptions,
  ) {
    const legend = create('div', 'legend');
    for (const curve of options.curves) {
      const value = create('b');
      this.#values.push(value);
      if (curve.edge) continue;
      const swatch = create('i', curve.dash === undefined ? '' : 'dashed');
      swatch.style.setProperty('--swatch', `var(${curve.color})`);
      legend.append(create('span', '', swatch, curve.label, ' ', value));
    }
    this.#body = create('div', 'plot');
    this.#body.style.height = `${options.height}px`;
    box.append(legend, this.#body);
    new ResizeObserver(() => this.#resize()).observe(this.#body);
    // Canvases do not follow the style sheet by themselves.
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#rebuild());
  }

  draw(data: Table, horizontal: Horizontal): void {
    this.#data = data;
    if (this.#plot === undefined || horizontal !== this.#horizontal) {
      this.#horizontal = horizontal;
      this.#rebuild();
    } else this.#plot.setData(data as uPlot.AlignedData);
    this.#tell(null);
  }

  #rebuild(): void {
    if (this.#data === undefined) return;
    this.#plot?.destroy();
    this.#plot = new uPlot(this.#settings(), this.#data as uPlot.AlignedData, this.#body);
  }

  #resize(): void {
    const width = this.#body.clientWidth;
    if (width > 0 && width !== this.#plot?.width) this.#plot?.setSize({ width, height: this.options.height });
  }

  /** The values at an index, or the newest. */
  #tell(index: number | null): void {
    for (const [i, { format }] of this.options.curves.entries()) {
      const values = this.#data?.[i + 1] ?? [];
      const value = index === null ? values.findLast((v) => v != null) : nearest(values, index);
      setText(this.#values[i], value == null ? '' : format(value));
    }
  }

  #settings(): uPlot.Options {
    const { curves, bands = [], height, right, onZoom } = this.options;
    const faint = color(this.box, '--faint');
    const line = color(this.box, '--line');
    const font = `11px ${getComputedStyle(this.box).fontFamily}`;
    const horizontal = this.#horizontal;
    const axis = { stroke: faint, font, ticks: { stroke: line, width: 1, size: 4 }, grid: { stroke: line, width: 1 } };
    const first = curves.find(({ scale }) => scale === undefined);
    const second = curves.find(({ scale }) => scale === right && right !== undefined);
    return {
      width: Math.max(100, this.#body.clientWidth),
      height,
      pxAlign: 0,
      legend: { show: false },
      scales: { x: { time: false } },
      cursor: {
        y: false,
        drag: { x: true, y: false, setScale: false },
        points: { size: 6, width: 1.5 },
      },
      padding: [8, right === undefined ? 10 : 0, 0, 0],
      axes: [
        { ...axis, size: 26, space: 70, values: (_, ticks) => ticks.map((x) => formatHorizontal(x, horizontal)) },
        { ...axis, size: 46, space: 34, values: ticksOf(first) },
        ...(right === undefined
          ? []
          : [
              {
                ...axis,
                scale: right,
                side: 1,
                size: 50,
                space: 34,
                grid: { show: false },
                values: ticksOf(second),
              },
            ]),
      ],
      series: [
        {},
        ...curves.map((curve): uPlot.Series => {
          const stroke = color(this.box, curve.color);
          return {
            scale: curve.scale ?? 'y',
            stroke: curve.edge ? 'transparent' : stroke,
            width: curve.edge ? 0 : (curve.width ?? 1.75),
            dash: curve.dash,
            points: { show: curve.points === true, size: 5, fill: stroke, stroke },
          };
        }),
      ],
      bands: bands.map(([upper, lower]) => ({
        series: [upper + 1, lower + 1],
        fill: color(this.box, '--band'),
      })),
      hooks: {
        setCursor: [(plot) => this.#tell(plot.cursor.idx ?? null)],
        setSelect: [
          (plot) => {
            const { left, width } = plot.select;
            if (width > 3) onZoom(plot.posToVal(left, 'x'), plot.posToVal(left + width, 'x'));
            plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          },
        ],
      },
    };
  }
}

function ticksOf(curve: Curve | undefined): uPlot.Axis.DynamicValues {
  return (_, ticks, _axis, _space, increment) => {
    const decimals = Math.max(0, Math.ceil(-Math.log10(increment) - 1e-9));
    return ticks.map((y) => curve?.formatTick?.(y) ?? y.toFixed(decimals));
  };
}

/** The value at an index, or the one before it: evaluations are rarer than steps. */
function nearest(values: readonly (number | null | undefined)[], index: number): number | null | undefined {
  for (let i = index; i >= 0; i--) if (values[i] != null) return values[i];
  return undefined;
}

export function formatHorizontal(x: number, horizontal: Horizontal): string {
  if (horizontal === 'time') return formatDuration(x);
  return horizontal === 'tokens' ? formatCount(x) : x.toLocaleString('en');
}

/** The x of each entry. */
export function horizontalOf(
  columns: Pick<Columns, 'step' | 'seconds'>,
  by: Horizontal,
  tokensPerStep: number,
): number[] {
  if (by === 'step') return columns.step;
  if (by === 'tokens') return columns.step.map((step) => step * tokensPerStep);
  return columns.seconds.map((seconds) => seconds ?? 0);
}

/** Both tables over the union of their x; what one lacks there is no gap in it. */
export function joined(one: Table, other: Table): Table {
  return other[0].length === 0
    ? ([...one, ...other.slice(1).map(() => [])] as unknown as Table)
    : (uPlot.join([one as uPlot.AlignedData, other as uPlot.AlignedData]) as unknown as Table);
}
