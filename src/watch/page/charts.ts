import uPlot from 'uplot';
import { DURATION_INCREMENTS, numberTick, WHOLE_INCREMENTS } from '../../report/ticks.js';
import { formatHorizontal, formatPosition, type Horizontal, type Range } from './axis.js';
import { create, setData, setHidden, setText } from './dom.js';

/** A curve of a chart. */
export interface Curve {
  readonly label: string;
  /** The name of a custom property in the style sheet. */
  readonly color: string;
  readonly scale?: string;
  readonly width?: number;
  readonly dash?: number[];
  /** An edge of a band: drawn thin, and not in the legend. */
  readonly edge?: boolean;
  /** Indices (from 0) of the curves with the minimum and maximum of each entry, whose mean this curve shows. */
  readonly spread?: readonly [number, number];
  readonly format: (value: number) => string;
  /** Formats ticks of the axis. Default: with the decimals that they need. */
  readonly formatTick?: (value: number) => string;
}

export interface ChartOptions {
  readonly curves: readonly Curve[];
  /** Pairs of curves (upper, lower; indices from 0) between which the area is filled. */
  readonly bands?: readonly { readonly edges: readonly [number, number]; readonly color: string }[];
  readonly height: number;
  /** The scale whose axis is at the right. */
  readonly right?: string;
  readonly onZoom: (from: number, to: number) => void;
}

type Values = (number | null | undefined)[];
export type ChartData = [x: number[], ...Values[]];

/** Pixels between labels of an axis, and beside a tick for its mark and a gap. */
const LABEL_SPACE = 16;
const TICK_SPACE = 12;
const FONT_SIZE = 11;

const color = (element: Element, name: string) => getComputedStyle(element).getPropertyValue(name).trim();

/** A uPlot chart in `box` with a legend above it, in the style sheet's colours. */
export class Chart {
  #plot: uPlot | undefined;
  #data: ChartData | undefined;
  #horizontal: Horizontal = 'step';
  #window: Range | undefined;
  /** The last label of the horizontal axis, which may extend beyond its end. */
  #lastLabel = '';
  #font = '';
  readonly #widths = new Map<string, number>();
  readonly #pen = document.createElement('canvas').getContext('2d');
  readonly #values: HTMLElement[] = [];
  readonly #where: HTMLElement;
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
    this.#where = create('div', 'where');
    this.#where.hidden = true;
    this.#body = create('div', 'plot', this.#where);
    this.#body.style.height = `${options.height}px`;
    box.append(legend, this.#body);
    new ResizeObserver(() => this.#resize()).observe(this.#body);
    // Canvases do not follow the style sheet.
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#rebuild());
  }

  /** Shows only `window`, if given. Entries beside it determine where lines leave it. */
  draw(data: ChartData, horizontal: Horizontal, window?: Range): void {
    this.#data = data;
    this.#window = window;
    if (this.#plot === undefined || horizontal !== this.#horizontal) {
      this.#horizontal = horizontal;
      this.#rebuild();
    } else this.#plot.setData(data as uPlot.AlignedData);
    this.#tell();
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

  /** Shows the values at the cursor and their position in the legend; without a cursor, the newest visible values. */
  #tell(): void {
    const cursor = this.#plot?.cursor;
    const isOn = cursor?.idx != null && (cursor.left ?? -1) >= 0;
    const x = this.#data?.[0] ?? [];
    const positionOf = (index: number) => formatPosition(x[index], this.#horizontal);
    const lines = isOn ? [positionOf(cursor.idx as number)] : [];
    const elsewhere = new Map<string, string[]>();
    for (const [i, curve] of this.options.curves.entries()) {
      const index = isOn ? cursor.idxs?.[i + 1] : this.#newest(i);
      const value = index == null ? undefined : this.#data?.[i + 1]?.[index];
      setText(this.#values[i], value == null ? '' : curve.format(value));
      if (!isOn || index == null || value == null || curve.edge) continue;
      const spread = this.#spreadAt(curve, index);
      if (spread !== '') lines.push(`${curve.label} ${spread}`);
      // Evaluations are rarer than steps, so the nearest one may be at another step.
      if (x[index] !== x[cursor.idx as number])
        elsewhere.set(positionOf(index), [...(elsewhere.get(positionOf(index)) ?? []), curve.label]);
    }
    for (const [where, labels] of elsewhere) lines.push(`${labels.join(', ')}: ${where}`);
    setHidden(this.#where, lines.length === 0);
    setText(this.#where, lines.join('\n'));
    const isLeft = (cursor?.left ?? 0) > (this.#plot?.width ?? 0) / 2;
    setData(this.#where, 'side', isLeft ? 'left' : 'right');
  }

  /** The last entry of a curve within the window. */
  #newest(curve: number): number | undefined {
    const [x, values] = [this.#data?.[0] ?? [], this.#data?.[curve + 1] ?? []];
    const index = x.findLastIndex(
      (at, i) => values[i] != null && (this.#window === undefined || at <= this.#window[1]),
    );
    return index < 0 ? undefined : index;
  }

  /** `least to greatest`, where an entry stands for several steps. */
  #spreadAt({ spread, format }: Curve, index: number): string {
    if (spread === undefined) return '';
    const [least, most] = spread.map((i) => this.#data?.[i + 1]?.[index]);
    return least == null || most == null || least === most ? '' : `${format(least)} to ${format(most)}`;
  }

  /** Whether a curve (from 1, as in uPlot) has exactly one value. */
  #isAlone(curve: number): boolean {
    const values = this.#data?.[curve] ?? [];
    const first = values.findIndex((value) => value != null);
    return first >= 0 && first === values.findLastIndex((value) => value != null);
  }

  #widthOf(text: string): number {
    const known = this.#widths.get(text);
    if (known !== undefined || this.#pen === null) return known ?? 0;
    const { width } = this.#pen.measureText(text);
    this.#widths.set(text, width);
    return width;
  }

  #settings(): uPlot.Options {
    const { curves, bands = [], height, right, onZoom } = this.options;
    const faint = color(this.box, '--faint');
    const line = color(this.box, '--line');
    const horizontal = this.#horizontal;
    this.#font = `${FONT_SIZE}px ${getComputedStyle(this.box).fontFamily}`;
    this.#widths.clear();
    if (this.#pen !== null) this.#pen.font = this.#font;
    const axis = {
      stroke: faint,
      font: this.#font,
      ticks: { stroke: line, width: 1, size: 4 },
      grid: { stroke: line, width: 1 },
    };
    // A vertical axis is as wide as its longest label. The length of labels depends on the run.
    const size = (least: number) => (_: uPlot, labels: string[] | null) =>
      Math.max(least, ...(labels ?? []).map((label) => Math.ceil(this.#widthOf(label)) + TICK_SPACE));
    const first = curves.find(({ scale }) => scale === undefined);
    const second = curves.find(({ scale }) => scale === right && right !== undefined);
    return {
      width: Math.max(100, this.#body.clientWidth),
      height,
      pxAlign: 0,
      legend: { show: false },
      scales: {
        x: { time: false, range: (_, from, to) => (this.#window ? [...this.#window] : [from, to]) },
      },
      cursor: {
        y: false,
        drag: { x: true, y: false, setScale: false },
        points: { size: 6, width: 1.5 },
      },
      // Half of a label at the very end lies beyond it.
      padding: [
        8,
        () => (right === undefined ? Math.max(10, Math.ceil(this.#widthOf(this.#lastLabel) / 2) + 2) : 0),
        0,
        0,
      ],
      axes: [
        {
          ...axis,
          size: 26,
          space: (_, _axis, from, to) => {
            const increments = horizontal === 'time' ? DURATION_INCREMENTS : WHOLE_INCREMENTS;
            // An increment for about five ticks in this range: a shorter range has ticks with more digits.
            const grain = increments.findLast((increment) => increment <= (to - from) / 5) ?? increments[0];
            const ends = [from, to].map((x) => formatHorizontal(Math.round(x / grain) * grain, horizontal));
            return Math.max(38, ...ends.map((label) => this.#widthOf(label))) + LABEL_SPACE;
          },
          incrs: [...(horizontal === 'time' ? DURATION_INCREMENTS : WHOLE_INCREMENTS)],
          values: (_, ticks) => {
            const labels = ticks.map((x) => formatHorizontal(x, horizontal));
            this.#lastLabel = labels.at(-1) ?? '';
            return labels;
          },
        },
        { ...axis, size: size(46), space: 34, values: ticksOf(first) },
        ...(right === undefined
          ? []
          : [
              {
                ...axis,
                scale: right,
                side: 1,
                size: size(50),
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
            stroke,
            width: curve.edge ? 1 : (curve.width ?? 1.75),
            dash: curve.dash,
            // A single point makes no line.
            points: { show: (_, index) => !curve.edge && this.#isAlone(index), size: 5, fill: stroke, stroke },
          };
        }),
      ],
      bands: bands.map(({ edges: [upper, lower], color: name }) => ({
        series: [upper + 1, lower + 1],
        fill: color(this.box, name),
      })),
      hooks: {
        setCursor: [() => this.#tell()],
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
  return (_, ticks, _axis, _space, increment) => ticks.map((y) => curve?.formatTick?.(y) ?? numberTick(y, increment));
}

/** Both over the union of their x. Missing values are not gaps in a curve. */
export function joinedData(one: ChartData, other: ChartData): ChartData {
  return other[0].length === 0
    ? ([...one, ...other.slice(1).map(() => [])] as unknown as ChartData)
    : (uPlot.join([one as uPlot.AlignedData, other as uPlot.AlignedData]) as unknown as ChartData);
}
