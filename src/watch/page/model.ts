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

/** Points of the whole run up to which the page adds new steps. Beyond that it requests fewer buckets. */
const MOST_POINTS = 2000;
export const WANTED_POINTS = 800;
const MOST_LOG = 300;
/** The id of a `range` request for the whole run. Other ids are for zooms. */
export const WHOLE = 0;

export type Part = 'run' | 'status' | 'history' | 'workers' | 'split' | 'log' | 'samples' | 'checkpoints';

/** The page's knowledge of the run. `apply` takes a message and returns the parts that changed. */
export class Model {
  run: RunFacts | undefined;
  status: Status | undefined;
  /** The whole run: first buckets, then the newest steps one by one. */
  history = emptyColumns();
  /** The zoomed part of the run; `columns` once they have arrived. */
  zoom: { readonly from: number; readonly to: number; columns: Columns | undefined } | undefined;
  evaluations: Evaluation[] = [];
  workers: readonly WorkerInfo[] = [];
  split: Split | null = null;
  log: LogEntry[] = [];
  samples: Sample[] = [];
  checkpoints: CheckpointInfo[] = [];
  #zooms = 0;
  #asked = false;

  /** The loss as reports and the terminal show it: of the last evaluation, else of the last step. */
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

  /** The request for the whole run in fewer buckets; undefined while it fits. */
  wantsWhole():
    | { readonly id: number; readonly from: number; readonly to: number; readonly points: number }
    | undefined {
    const { step } = this.history;
    if (this.#asked || step.length <= MOST_POINTS) return undefined;
    this.#asked = true;
    return { id: WHOLE, from: 0, to: step[step.length - 1], points: WANTED_POINTS };
  }

  /** Zooms into steps `from` to `to`. Returns the request for them, with one entry beyond either end. */
  zoomTo(from: number, to: number) {
    this.zoom = { from, to, columns: undefined };
    const beside = Math.ceil((to - from + 1) / WANTED_POINTS) + 1;
    return { id: ++this.#zooms, from: Math.max(0, from - beside), to: to + beside, points: WANTED_POINTS };
  }

  /** The visible evaluations, and one beyond either end of a zoom, to which their line goes. */
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
    // The run may have gone back to a step before the zoom.
    this.zoom = undefined;
    this.evaluations = [];
    this.workers = [];
    this.split = null;
    this.log = [];
    this.samples = [];
    this.checkpoints = [];
    this.#asked = false;
  }

  /** Replaces the history, but keeps steps that are newer than `columns`. */
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
