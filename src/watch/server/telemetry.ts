import { bitClassesOf } from '../../report/bit-classes.js';
import { courseOf, endOf } from '../../report/course.js';
import { type Inexact, inexactOf, inexactText } from '../../report/exactness.js';
import { reasonOf } from '../../report/format.js';
import type { MetricsEvent } from '../../report/metrics.js';
import { secondsOf } from '../../report/speed.js';
import { thin } from '../../report/thin.js';
import {
  type CheckpointInfo,
  type Evaluation,
  type LogEntry,
  OVER,
  type RunFacts,
  type RunState,
  type Sample,
  type ServerMessage,
  type Status,
  type Update,
} from '../messages.js';
import { RATES_MS, Rates } from './rates.js';
import { RunForecast } from './run-forecast.js';
import { brief, StepHistory } from './step-history.js';
import { type LiveSource, WorkerList } from './worker-list.js';

/** Buckets of the whole history, and of all evaluations. */
const HISTORY_POINTS = 800;
/** Largest number of buckets of a requested part. */
const MOST_POINTS = 1600;
const MOST_LOG = 300;
const MOST_SAMPLES = 60;
const MOST_CHECKPOINTS = 200;

/** States in which no step is computed. */
const IDLE: ReadonlySet<RunState> = new Set(['starting', 'waiting', 'paused']);

/** A list that keeps its newest entries and knows those since the last update. */
class Feed<T> {
  #items: T[] = [];
  #fresh: T[] = [];

  constructor(readonly most: number) {}

  push(item: T): void {
    this.#items.push(item);
    if (this.#items.length > 2 * this.most) this.#items = this.#items.slice(-this.most);
    this.#fresh.push(item);
    if (this.#fresh.length > this.most) this.#fresh.shift();
  }

  get all(): T[] {
    return this.#items.slice(-this.most);
  }

  takeFresh(): T[] | undefined {
    if (this.#fresh.length === 0) return undefined;
    const fresh = this.#fresh;
    this.#fresh = [];
    return fresh;
  }
}

/**
 * The data of one run for its page. Recording an event is cheap. Everything else is computed in `update` and
 * `snapshot`, which are called only while somebody watches.
 */
export class Telemetry {
  readonly history = new StepHistory();
  live: LiveSource | undefined;
  /** The page's URL for other machines. */
  address: string | undefined;
  #state: RunState = 'starting';
  #reason: string | undefined;
  #paused = false;
  readonly #evaluations = new Feed<Evaluation>(Number.POSITIVE_INFINITY);
  readonly #log = new Feed<LogEntry>(MOST_LOG);
  readonly #samples = new Feed<Sample>(MOST_SAMPLES);
  readonly #checkpoints = new Feed<CheckpointInfo>(MOST_CHECKPOINTS);
  /** Entries of the history that updates have sent. */
  #told = 0;
  readonly #rates = new Rates();
  /** Index of the first entry of this start. */
  #own = 0;
  #forecast: RunForecast;
  readonly #workerList: WorkerList;
  #mixed: boolean;
  #inexact: Inexact | undefined;
  #awaited: string | undefined;
  /** The last step's `noise`. */
  #noise: number | undefined;
  #status = '';
  #workers = '';

  /** `past`: the run's events so far. `stop`: aborted once the run is to end. */
  constructor(
    readonly facts: RunFacts,
    past: readonly MetricsEvent[] = [],
    private readonly now: () => number = () => performance.now(),
    private readonly stop?: AbortSignal,
  ) {
    const course = courseOf(past);
    this.#forecast = new RunForecast(now);
    for (const event of course) this.#record(event, null);
    this.#forecast = new RunForecast(now);
    this.#own = this.history.length;
    this.#drain();
    this.#workerList = new WorkerList(course);
    this.#mixed = bitClassesOf(course).mixed;
    this.#inexact = inexactOf(course);
    if (facts.kind !== 'past') return;
    const { state, reason } = endOf(course);
    this.#state = state === 'unfinished' ? 'past' : state;
    this.#reason = reason;
  }

  get step(): number {
    return this.history.last?.step ?? 0;
  }

  event(event: MetricsEvent): void {
    if (event.event === 'step') this.state = 'running';
    else if (event.event === 'done') this.state = 'done';
    else if (event.event === 'mixed') this.#mixed = true;
    else if (event.event === 'inexact') this.#inexact = inexactOf([event], this.#inexact);
    if (event.event === 'awaited') this.#awaited = `step ${event.step} waits for ${event.worker} ${event.reason}`;
    else if (event.event === 'step' || event.event === 'leave') this.#awaited = undefined;
    this.#record(event, Date.now());
  }

  /** Adds a line to the page's log. */
  log(kind: string, text: string, worker?: string): void {
    this.#log.push({ at: Date.now(), step: this.step, kind, text, ...(worker === undefined ? {} : { worker }) });
  }

  set state(state: RunState) {
    this.#state = state;
    this.#forecast.idle = this.#paused || IDLE.has(state);
  }

  set paused(paused: boolean) {
    this.#paused = paused;
    this.#forecast.idle = paused || IDLE.has(this.#state);
  }

  /** The run ended before its last step. */
  end(state: 'stopped' | 'failed', reason?: string): void {
    this.state = state;
    this.#reason = reason;
    this.log(state, reason ?? '');
  }

  /** The messages for a new page: everything up to the last `update`. */
  snapshot(): ServerMessage[] {
    const columns = this.history.columns(0, this.#told, HISTORY_POINTS);
    return [
      { ...this.facts, address: this.address },
      { type: 'history', id: 0, columns },
      {
        type: 'update',
        status: this.status,
        evaluations: thin(this.#evaluations.all, HISTORY_POINTS, [lossOf('train'), lossOf('val')]),
        workers: this.#workerList.all(this.live, this.#rates.workers()),
        split: this.#rates.split(),
        log: this.#log.all,
        samples: this.#samples.all,
        checkpoints: this.#checkpoints.all,
      },
    ];
  }

  /** The entries of steps `from` to `to`: the index of the first, and that after the last. */
  entriesOf(from: number, to: number): readonly [number, number] {
    return [this.history.indexOf(from), this.history.indexOf(to + 1)];
  }

  /** Entries [begin, end) in at most `points` buckets, limited to what a screen shows. */
  range(begin: number, end: number, points: number) {
    return this.history.columns(begin, end, Math.min(points, MOST_POINTS));
  }

  /** The news since the last call; undefined where there are none. */
  update(): Update | undefined {
    this.#noteRates();
    const steps = this.#told < this.history.length ? this.history.columns(this.#told) : undefined;
    this.#told = this.history.length;
    const lists = {
      evaluations: this.#evaluations.takeFresh(),
      log: this.#log.takeFresh(),
      samples: this.#samples.takeFresh(),
      checkpoints: this.#checkpoints.takeFresh(),
    };
    const workers = this.#workerList.all(this.live, this.#rates.workers());
    const shown = JSON.stringify(workers);
    const { status } = this;
    const said = JSON.stringify(status);
    const isNew =
      steps !== undefined ||
      shown !== this.#workers ||
      said !== this.#status ||
      Object.values(lists).some((list) => list !== undefined);
    if (!isNew) return undefined;
    const isSame = shown === this.#workers;
    this.#workers = shown;
    this.#status = said;
    return {
      type: 'update',
      status,
      ...(steps === undefined ? {} : { steps, split: this.#rates.split() }),
      ...(isSame ? {} : { workers }),
      ...lists,
    };
  }

  #drain(): void {
    for (const feed of [this.#evaluations, this.#log, this.#samples, this.#checkpoints]) feed.takeFresh();
    this.#told = this.history.length;
  }

  #record(event: MetricsEvent, at: number | null): void {
    if (event.event !== 'step' && event.event !== 'contributed') this.#forecast.between();
    switch (event.event) {
      case 'step': {
        const { step, loss, tokensPerSecond, lr, gradNorm = Number.NaN } = event;
        const seconds = (this.history.last?.seconds ?? 0) + secondsOf(event);
        this.history.append({ step, seconds, loss, tokensPerSecond, lr, gradNorm });
        this.#noise = event.noise;
        this.#forecast.step(step, seconds);
        break;
      }
      case 'eval': {
        const { step, trainLoss, valLoss } = event;
        const seconds = brief(this.history.last?.seconds ?? 0);
        this.#evaluations.push({ step, seconds, train: brief(trainLoss), val: brief(valLoss ?? Number.NaN) });
        break;
      }
      case 'sample':
        this.#samples.push({ step: event.step, text: event.text });
        break;
      case 'checkpoint': {
        const { step, digest, path } = event;
        this.#checkpoints.push({ step, digest, path });
        this.#log.push({ at, step, kind: 'checkpoint', text: `saved, digest ${digest.slice(0, 16)}` });
        break;
      }
      case 'done':
        this.#log.push({ at, step: event.step, kind: 'done', text: `digest ${event.digest}` });
        break;
      case 'workers':
      case 'contributed':
        break;
      default: {
        const { event: kind, worker, step = this.step } = event;
        this.#log.push({ at, step, kind, text: reasonOf(event), ...(worker === undefined ? {} : { worker }) });
      }
    }
  }

  get status(): Status {
    const isOver = OVER.has(this.#state);
    const state = isOver ? this.#state : this.stop?.aborted ? 'stopping' : this.#paused ? 'paused' : this.#state;
    const isIdle = IDLE.has(this.#state) || state === 'paused';
    const efficiency = this.#rates.efficiency(this.facts.tokensPerStep);
    const left = this.#forecast.secondsLeft(this.facts.totalSteps);
    return {
      state,
      ...(this.#reason === undefined ? {} : { reason: this.#reason }),
      step: this.step,
      secondsLeft: isOver || isIdle || left === undefined ? null : Math.round(left),
      tokensPerSecond: isIdle ? null : brief(this.#speed(isOver ? undefined : RATES_MS / 1000)),
      efficiency: isOver || isIdle || efficiency === undefined ? null : brief(efficiency),
      mixed: this.#mixed,
      ...(this.#inexact === undefined ? {} : { inexact: inexactText(this.#inexact) }),
      ...(this.#awaited === undefined || isOver ? {} : { awaited: this.#awaited }),
      ...(this.#noise === undefined ? {} : { noise: brief(this.#noise) }),
    };
  }

  /** Tokens/s over this start's last `seconds` in steps; without `seconds`, over all steps of the run. */
  #speed(seconds?: number): number {
    const { length } = this.history;
    const least = seconds === undefined ? 0 : this.#own;
    if (length <= least) return Number.NaN;
    const end = this.history.at(length - 1);
    let first = seconds === undefined ? 0 : length - 1;
    while (first > least && end.seconds - this.history.at(first - 1).seconds < (seconds ?? 0)) first--;
    const begin = first > 0 ? this.history.at(first - 1) : { seconds: 0, step: this.history.at(0).step - 1 };
    return ((end.step - begin.step) * this.facts.tokensPerStep) / (end.seconds - begin.seconds);
  }

  #noteRates(): void {
    if (this.live === undefined) return;
    const workers = new Map(this.live.workers().map(({ id, totals }) => [id, { ...totals }]));
    const { step = 0, seconds = 0 } = this.history.last ?? {};
    this.#rates.note({ at: this.now(), step, seconds, workers, ...this.live.times() });
  }
}

/** NaN was sent as null. */
const lossOf = (key: 'train' | 'val') => (evaluation: Evaluation) => evaluation[key] ?? Number.NaN;
