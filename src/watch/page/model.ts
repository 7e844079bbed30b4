import {
  type CheckpointInfo,
  type Columns,
  type Evaluation,
  emptyColumns,
  type LogEntry,
  type RunFacts,
  type Sample,
  type ServerMessage,
  type Split,
  type Status,
  type WorkerInfo,
} from '../messages.js';

/** Points of the whole run that the page holds before it asks for them anew, in fewer buckets. */
const MOST_POINTS = 2000;
export const WANTED_POINTS = 800;
const MOST_LOG = 300;
/** What `range` is asked for the whole run with; others are for zooms. */
export const WHOLE = 0;

export type Part = 'run' | 'status' | 'history' | 'workers' | 'split' | 'log' | 'samples' | 'checkpoints';

/** All that the page knows of the run. Messages go in, and it says which parts have changed. */
export class Model {
  run: RunFacts | undefined;
  status: Status | undefined;
  /** The whole run in some buckets, then the newest steps one by one. */
  history = emptyColumns();
  /** A part of the run in more detail, while it is zoomed into. */
  zoom: { readonly from: number; readonly to: number; columns: Columns | undefined } | undefined;
  evaluations: Evaluation[] = [];
  workers: readonly WorkerInfo[] = [];
  split: Split | null = null;
  log: LogEntry[] = [];
  samples: Sample[] = [];
  checkpoints: CheckpointInfo[] = [];
  #zooms = 0;
  #asked = false;

  /** As reports and the terminal say it: of the last evaluation, or of the last step where there was none. */
  get loss(): number | undefined {
    const evaluation = this.evaluations.at(-1);
    return (evaluation === undefined ? this.history.loss.at(-1) : evaluation.train) ?? undefined;
  }

  get validation(): number | undefined {
    return this.evaluations.at(-1)?.val ?? undefined;
  }

  apply(message: ServerMessage): Part[] {
    switch (message.type) {
      case 'run':
        this.#reset(message);
        return ['run', 'status', 'history', 'workers', 'split', 'log', 'samples', 'checkpoints'];
      case 'history':
        if (message.id === WHOLE) {
          this.#replace(message.columns);
          return ['history'];
        }
        if (this.zoom === undefined || message.id !== this.#zooms) return [];
        this.zoom.columns = message.columns;
        return ['history'];
      case 'update':
        return this.#update(message);
      default:
        return [];
    }
  }

  /** What to ask the server for so that the whole run fits again; undefined when it does. */
  wantsWhole():
    | { readonly id: number; readonly from: number; readonly to: number; readonly points: number }
    | undefined {
    const { step } = this.history;
    if (this.#asked || step.length <= MOST_POINTS) return undefined;
    this.#asked = true;
    return { id: WHOLE, from: 0, to: step[step.length - 1], points: WANTED_POINTS };
  }

  /** Zooms into steps `from` to `to`; returns what to ask the server for: an entry beside either end as well. */
  zoomTo(from: number, to: number) {
    this.zoom = { from, to, columns: undefined };
    const beside = Math.ceil((to - from + 1) / WANTED_POINTS) + 1;
    return { id: ++this.#zooms, from: Math.max(0, from - beside), to: to + beside, points: WANTED_POINTS };
  }

  /** The evaluations that are seen, and the one beside either end of a zoom: to there their line goes. */
  get shownEvaluations(): readonly Evaluation[] {
    const { zoom, evaluations } = this;
    if (zoom === undefined) return evaluations;
    const first = evaluations.findLastIndex(({ step }) => step <= zoom.from);
    const last = evaluations.findIndex(({ step }) => step >= zoom.to);
    return evaluations.slice(Math.max(0, first), last < 0 ? evaluations.length : last + 1);
  }

  #reset(run: RunFacts): void {
    this.run = run;
    this.history = emptyColumns();
    // The run may have gone back to before what was zoomed into.
    this.zoom = undefined;
    this.evaluations = [];
    this.workers = [];
    this.split = null;
    this.log = [];
    this.samples = [];
    this.checkpoints = [];
    this.#asked = false;
  }

  /** Steps that came after the answer was written stay. */
  #replace(columns: Columns): void {
    const last = columns.step.at(-1) ?? -1;
    const newer = this.history.step.findIndex((step) => step > last);
    if (newer >= 0)
      for (const key of Object.keys(columns) as (keyof Columns)[])
        (columns[key] as unknown[]).push(...this.history[key].slice(newer));
    this.history = columns;
    this.#asked = false;
  }

  #update(message: Extract<ServerMessage, { type: 'update' }>): Part[] {
    const parts: Part[] = ['status'];
    this.status = message.status;
    const { steps, evaluations, workers, split, log, samples, checkpoints } = message;
    if (steps !== undefined) {
      for (const key of Object.keys(this.history) as (keyof Columns)[])
        (this.history[key] as unknown[]).push(...steps[key]);
      parts.push('history');
    }
    if (evaluations !== undefined) {
      this.evaluations.push(...evaluations);
      parts.push('history');
    }
    if (workers !== undefined) {
      this.workers = workers;
      parts.push('workers');
    }
    if (split !== undefined) {
      this.split = split;
      parts.push('split');
    }
    if (log !== undefined) {
      this.log = [...this.log, ...log].slice(-MOST_LOG);
      parts.push('log');
    }
    if (samples !== undefined) {
      this.samples.push(...samples);
      parts.push('samples');
    }
    if (checkpoints !== undefined) {
      this.checkpoints.push(...checkpoints);
      parts.push('checkpoints');
    }
    return parts;
  }
}
