import { formatCount, formatLoss, formatReal, UNKNOWN } from '../../report/format.js';
import { countTick } from '../../report/ticks.js';
import type { Columns } from '../messages.js';
import { type Horizontal, horizontalOf, windowOf } from './axis.js';
import { Chart, type ChartData, joinedData } from './charts.js';
import { byId, create, type PageView } from './dom.js';
import type { Model } from './model.js';

/** Rows of the table: few enough for a screen reader. */
const MOST_ROWS = 50;

/** The charts of a run, their table, and the part of the run that they show. */
export class Curves {
  /** The horizontal axis. */
  horizontal: Horizontal = 'step';
  readonly #loss: Chart;
  readonly #speed: Chart;
  readonly #norm: Chart;

  /** `ask` requests a part of the run from the server in more detail. */
  constructor(
    private readonly model: Model,
    private readonly ask: (range: ReturnType<Model['zoomTo']>) => void,
    private readonly redraw: () => void,
  ) {
    const onZoom = (from: number, to: number) => this.#zoomToSteps(this.#stepAt(from), this.#stepAt(to));
    this.#loss = new Chart(byId('loss'), {
      curves: [
        { label: 'least', color: '--train-faint', edge: true, format: formatLoss },
        { label: 'most', color: '--train-faint', edge: true, format: formatLoss },
        { label: 'Each step', color: '--train-faint', width: 1, spread: [0, 1], format: formatLoss },
        { label: 'Training', color: '--train', width: 2.25, format: formatLoss },
        { label: 'Validation', color: '--val', width: 2.25, dash: [7, 4], format: formatLoss },
      ],
      bands: [{ edges: [1, 0], color: '--band' }],
      height: 292,
      onZoom,
    });
    this.#speed = new Chart(byId('speed'), {
      curves: [
        { label: 'slowest', color: '--speed-faint', edge: true, format: formatCount, formatTick: countTick },
        { label: 'fastest', color: '--speed-faint', edge: true, format: formatCount },
        { label: 'Tokens/s', color: '--speed', spread: [0, 1], format: formatCount },
      ],
      bands: [{ edges: [1, 0], color: '--speed-band' }],
      height: 168,
      onZoom,
    });
    this.#norm = new Chart(byId('norm'), {
      curves: [
        { label: 'least', color: '--norm-faint', edge: true, format: formatReal },
        { label: 'most', color: '--norm-faint', edge: true, format: formatReal },
        { label: 'Gradient norm', color: '--norm', spread: [0, 1], format: formatReal },
        { label: 'Learning rate', color: '--rate', scale: 'rate', dash: [5, 4], format: formatReal },
      ],
      bands: [{ edges: [1, 0], color: '--norm-band' }],
      right: 'rate',
      height: 168,
      onZoom,
    });
  }

  readonly views: readonly PageView[] = [
    () => this.#drawLoss(),
    () => {
      const { tokensPerSecondMin, tokensPerSecondMax, tokensPerSecond } = this.#columns;
      this.#draw(this.#speed, [tokensPerSecondMin, tokensPerSecondMax, tokensPerSecond]);
    },
    () => {
      const { gradNormMin, gradNormMax, gradNorm, lr } = this.#columns;
      this.#draw(this.#norm, [gradNormMin, gradNormMax, gradNorm, lr]);
    },
    () => this.#drawTable(),
  ];

  showWhole(): void {
    this.model.zoom = undefined;
    this.redraw();
  }

  /** Zooms by `factor` about the middle, or moves by the fraction `move` of the visible range. */
  zoomBy(factor: number, move = 0): void {
    const last = this.#last;
    const { from, to } = this.model.zoom ?? { from: 0, to: last };
    const width = (to - from) * factor;
    // The newest entry stays visible.
    const middle = move === 0 && to >= last ? last - width / 2 : (from + to) / 2 + move * (to - from);
    const begin = Math.min(Math.max(0, middle - width / 2), Math.max(0, last - width));
    this.#zoomToSteps(begin, begin + width);
  }

  /** The columns that are shown: the zoom's once they have arrived. */
  get #columns(): Columns {
    const { zoom, history } = this.model;
    return zoom?.columns ?? history;
  }

  get #last(): number {
    return this.model.history.step.at(-1) ?? 0;
  }

  /** Draws a chart of columns. `more`: further data at other steps. */
  #draw(chart: Chart, values: readonly (number | null)[][], more?: ChartData): void {
    const { run, zoom } = this.model;
    if (run === undefined) return;
    const columns = this.#columns;
    const x = horizontalOf(columns, this.horizontal, run.tokensPerStep);
    const table: ChartData = [x, ...values];
    const window = zoom && windowOf(zoom.from, zoom.to, columns.step, x);
    chart.draw(more === undefined ? table : joinedData(table, more), this.horizontal, window);
  }

  #drawLoss(): void {
    const { run, shownEvaluations: evaluations } = this.model;
    if (run === undefined) return;
    const { lossMin, lossMax, loss } = this.#columns;
    const places = { step: evaluations.map((e) => e.step), seconds: evaluations.map((e) => e.seconds) };
    this.#draw(
      this.#loss,
      [lossMin, lossMax, loss],
      [
        horizontalOf(places, this.horizontal, run.tokensPerStep),
        evaluations.map((e) => e.train),
        evaluations.map((e) => e.val),
      ],
    );
    byId<HTMLButtonElement>('zoom-all').disabled = this.model.zoom === undefined;
  }

  #drawTable(): void {
    if (!byId<HTMLDetailsElement>('table').open) return;
    const columns = this.#columns;
    const { length } = columns.step;
    const every = Math.max(1, Math.ceil(length / MOST_ROWS));
    const rows: HTMLTableRowElement[] = [];
    for (let i = length - 1; i >= 0; i -= every) rows.push(this.#row(columns, Math.max(0, i - every + 1), i));
    byId('rows').replaceChildren(...rows);
  }

  /** A row of the table: entry `last`, with the highest loss and the last evaluation of entries `first` to `last`. */
  #row(columns: Columns, first: number, last: number): HTMLTableRowElement {
    const before = first === 0 ? -1 : columns.step[first - 1];
    const evaluation = this.model.evaluations.findLast(({ step }) => step > before && step <= columns.step[last]);
    const highest = columns.lossMax.slice(first, last + 1).reduce((a, b) => (b === null || (a ?? b) > b ? a : b), null);
    const say = (value: number | null | undefined, format: (value: number) => string) =>
      value == null ? UNKNOWN : format(value);
    const cells = [
      say(columns.loss[last], formatLoss),
      say(highest, formatLoss),
      say(evaluation?.val, formatLoss),
      say(columns.tokensPerSecond[last], formatCount),
      say(columns.lr[last], formatReal),
      say(columns.gradNorm[last], formatReal),
    ];
    const head = create('th', 'number', columns.step[last].toLocaleString('en'));
    head.scope = 'row';
    return create('tr', '', head, ...cells.map((text) => create('td', 'number', text)));
  }

  /** The step at an x of the charts. */
  #stepAt(x: number): number {
    const { run } = this.model;
    if (this.horizontal === 'step' || run === undefined) return x;
    if (this.horizontal === 'tokens') return x / run.tokensPerStep;
    const { step, seconds } = this.#columns;
    const i = seconds.findIndex((at) => (at ?? 0) >= x);
    return step[i < 0 ? step.length - 1 : i] ?? 0;
  }

  #zoomToSteps(from: number, to: number): void {
    const last = this.#last;
    const begin = Math.max(0, Math.floor(from));
    const end = Math.min(last, Math.ceil(to));
    if (end - begin < 2) return;
    if (begin <= 1 && end >= last) this.showWhole();
    else {
      this.ask(this.model.zoomTo(begin, end));
      this.redraw();
    }
  }
}
