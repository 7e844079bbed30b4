import type { MetricsEvent } from '../../src/report/metrics.js';
import { emptyTotals, type WorkerTotals } from '../times.js';
import type {
  Checkpoint,
  Evaluation,
  LogEntry,
  RunFacts,
  RunState,
  Sample,
  ServerMessage,
  Split,
  Status,
  Update,
  WorkerInfo,
} from './messages.js';
import { brief, StepHistory } from './step-history.js';

/** A worker as its coordinator sees it now. */
export interface LiveWorker extends Omit<WorkerInfo, 'share' | 'tokensPerSecond' | 'tokens'> {
  readonly totals: Readonly<WorkerTotals>;
}

/** Asked only while somebody watches. */
export interface LiveSource {
  workers(): readonly LiveWorker[];
  /** In which the owner summed and updated, since the start. */
  times(): { readonly sumMs: number; readonly updateMs: number };
}

/** Figures are means of so long. */
const WINDOW_MS = 10_000;
const LEFT_MS = 60_000;
/** Buckets of the whole history, and of its evaluations. */
const HISTORY_POINTS = 800;
const MOST_LOG = 300;
const MOST_SAMPLES = 60;
const MOST_CHECKPOINTS = 200;

/** The totals at one moment. */
interface Mark {
  readonly at: number;
  readonly step: number;
  readonly workers: ReadonlyMap<number, WorkerTotals>;
  readonly sumMs: number;
  readonly updateMs: number;
}

/** A list whose newest entries are kept, and where the last update ended. */
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
 * What the page shows of one run. Recording an event is a few stores; everything else is worked out when `update` or
 * `snapshot` is called, which nobody does while nobody watches.
 */
export class Telemetry {
  readonly history = new StepHistory();
  live: LiveSource | undefined;
  /** Where other machines reach the page. */
  address: string | undefined;
  #state: RunState = 'starting';
  #paused = false;
  #stopping = false;
  readonly #evaluations = new Feed<Evaluation>(Number.POSITIVE_INFINITY);
  readonly #log = new Feed<LogEntry>(MOST_LOG);
  readonly #samples = new Feed<Sample>(MOST_SAMPLES);
  readonly #checkpoints = new Feed<Checkpoint>(MOST_CHECKPOINTS);
  /** Steps that updates have told of. */
  #told = 0;
  #marks: Mark[] = [];
  /** Ends of steps, for the time that is left. */
  #ends: { readonly at: number; readonly step: number }[] = [];
  #status = '';
  #workers = '';

  /** `past`: the events that the run has already. */
  constructor(
    readonly facts: RunFacts,
    past: readonly MetricsEvent[] = [],
    private readonly now: () => number = () => performance.now(),
  ) {
    for (const event of past) this.#record(event, null);
    this.#ends = [];
    this.#drain();
    const last = past.at(-1);
    this.#state = facts.kind !== 'past' ? 'starting' : last?.event === 'done' ? 'done' : 'past';
  }

  get step(): number {
    return this.history.last?.step ?? 0;
  }

  event(event: MetricsEvent): void {
    if (event.event === 'step') this.#state = 'running';
    else if (event.event === 'done') this.#state = 'done';
    this.#record(event, Date.now());
  }

  /** Something that is no metrics event. */
  log(kind: string, text: string, worker?: string): void {
    this.#log.push({ at: Date.now(), step: this.step, kind, text, ...(worker === undefined ? {} : { worker }) });
  }

  set state(state: RunState) {
    this.#state = state;
  }

  set paused(paused: boolean) {
    this.#paused = paused;
    // What came before the pause says nothing of the time after it.
    this.#ends = [];
  }

  set stopping(stopping: boolean) {
    this.#stopping = stopping;
  }

  /** Everything up to the last `update`, for who has just come. */
  snapshot(): ServerMessage[] {
    const columns = this.history.columns(0, this.#told, HISTORY_POINTS);
    return [
      { ...this.facts, address: this.address },
      { type: 'history', id: 0, columns },
      {
        type: 'update',
        status: this.status,
        evaluations: everyNth(this.#evaluations.all, HISTORY_POINTS),
        workers: this.#currentWorkers(),
        split: this.#currentSplit(),
        log: this.#log.all,
        samples: this.#samples.all,
        checkpoints: this.#checkpoints.all,
      },
    ];
  }

  range(from: number, to: number, points: number) {
    return this.history.columns(this.history.indexOf(from), this.history.indexOf(to + 1), points);
  }

  /** What is new since the last call; undefined when nothing is. */
  update(): Update | undefined {
    this.#mark();
    const steps = this.#told < this.history.length ? this.history.columns(this.#told) : undefined;
    this.#told = this.history.length;
    const lists = {
      evaluations: this.#evaluations.takeFresh(),
      log: this.#log.takeFresh(),
      samples: this.#samples.takeFresh(),
      checkpoints: this.#checkpoints.takeFresh(),
    };
    const workers = this.#currentWorkers();
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
      ...(steps === undefined ? {} : { steps, split: this.#currentSplit() }),
      ...(isSame ? {} : { workers }),
      ...lists,
    };
  }

  #drain(): void {
    for (const feed of [this.#evaluations, this.#log, this.#samples, this.#checkpoints]) feed.takeFresh();
    this.#told = this.history.length;
  }

  #record(event: MetricsEvent, at: number | null): void {
    switch (event.event) {
      case 'step': {
        const { step, loss, tokens, tokensPerSecond, lr, gradNorm = Number.NaN } = event;
        const before = this.history.last?.seconds ?? 0;
        const took = tokens / tokensPerSecond;
        const seconds = before + (Number.isFinite(took) ? took : 0);
        this.history.append({ step, seconds, loss, tokensPerSecond, lr, gradNorm });
        const now = this.now();
        this.#ends.push({ at: now, step });
        if (this.#ends.length > 1 && now - this.#ends[1].at > LEFT_MS) this.#ends.shift();
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
        break;
      default: {
        const { event: kind, worker, reason = '', step = this.step } = event;
        this.#log.push({ at, step, kind, text: reason, ...(worker === undefined ? {} : { worker }) });
      }
    }
  }

  get status(): Status {
    const speed = this.#speed();
    const own = this.#rates().reduce((sum, { rate }) => sum + rate, 0);
    const state = this.#state;
    const isOver = state === 'done' || state === 'stopped' || state === 'failed' || state === 'past';
    return {
      state: isOver ? state : this.#stopping ? 'stopping' : this.#paused ? 'paused' : state,
      step: this.step,
      secondsLeft: isOver || this.#paused ? null : this.#secondsLeft(),
      tokensPerSecond: brief(speed),
      efficiency: own > 0 ? brief(speed / own) : null,
    };
  }

  /** Tokens of the last steps over the time of those steps. */
  #speed(): number {
    const { length } = this.history;
    if (length === 0) return Number.NaN;
    const end = this.history.at(length - 1);
    let first = length - 1;
    while (first > 0 && end.seconds - this.history.at(first - 1).seconds < WINDOW_MS / 1000) first--;
    const begin = first > 0 ? this.history.at(first - 1) : { seconds: 0, step: this.history.at(0).step - 1 };
    return ((end.step - begin.step) * this.facts.tokensPerStep) / (end.seconds - begin.seconds);
  }

  #secondsLeft(): number | null {
    const first = this.#ends.at(0);
    const last = this.#ends.at(-1);
    if (!first || !last || last.step === first.step) return null;
    const each = (last.at - first.at) / (last.step - first.step);
    return Math.round((each * (this.facts.totalSteps - last.step)) / 1000);
  }

  #mark(): void {
    if (this.live === undefined) return;
    const now = this.now();
    const { step } = this;
    if (this.#marks.at(-1)?.step === step) return;
    const workers = new Map(this.live.workers().map(({ id, totals }) => [id, { ...totals }]));
    this.#marks.push({ at: now, step, workers, ...this.live.times() });
    while (this.#marks.length > 2 && now - this.#marks[0].at > WINDOW_MS) this.#marks.shift();
  }

  /** What each worker did in the time of the marks, and how fast it computed. */
  #rates(): { readonly id: number; readonly spent: WorkerTotals; readonly rate: number }[] {
    const first = this.#marks.at(0);
    const last = this.#marks.at(-1);
    if (!first || !last || first === last) return [];
    return [...last.workers].flatMap(([id, totals]) => {
      const before = first.workers.get(id) ?? emptyTotals();
      const spent = emptyTotals();
      for (const key of Object.keys(spent) as (keyof WorkerTotals)[]) spent[key] = totals[key] - before[key];
      return spent.tokens > 0 ? [{ id, spent, rate: (1000 * spent.tokens) / spent.computeMs }] : [];
    });
  }

  #currentWorkers(): WorkerInfo[] {
    const rates = new Map(this.#rates().map((rate) => [rate.id, rate]));
    const all = [...rates.values()].reduce((sum, { spent }) => sum + spent.tokens, 0);
    return (this.live?.workers() ?? []).map(({ totals, ...worker }) => {
      const { spent, rate } = rates.get(worker.id) ?? { spent: undefined, rate: Number.NaN };
      return {
        ...worker,
        share: spent && all > 0 ? brief(spent.tokens / all) : null,
        tokensPerSecond: brief(rate),
        tokens: totals.tokens,
      };
    });
  }

  #currentSplit(): Split | null {
    const first = this.#marks.at(0);
    const last = this.#marks.at(-1);
    const rates = this.#rates();
    if (!first || !last || rates.length === 0) return null;
    const steps = last.step - first.step;
    const each = steps * rates.length;
    const mean = (key: keyof WorkerTotals) => round(rates.reduce((sum, { spent }) => sum + spent[key], 0) / each);
    const history = this.history;
    const end = history.at(history.indexOf(last.step));
    const begin = first.step > 0 ? history.at(history.indexOf(first.step)) : { seconds: 0 };
    const step = round((1000 * (end.seconds - begin.seconds)) / steps);
    const [compute, upload, download] = [mean('computeMs'), mean('uploadMs'), mean('downloadMs')];
    return {
      step,
      compute,
      upload,
      // What a worker calls waiting has evaluations, checkpoints and pauses in it, which are no part of a step.
      wait: round(step - compute - upload - download),
      download,
      sum: round((last.sumMs - first.sumMs) / steps),
      update: round((last.updateMs - first.updateMs) / steps),
    };
  }
}

const round = (ms: number) => Math.round(100 * Math.max(0, ms)) / 100;

function everyNth<T>(items: readonly T[], most: number): T[] {
  const n = Math.ceil(items.length / most);
  return n <= 1 ? [...items] : items.filter((_, i) => i % n === 0 || i === items.length - 1);
}
