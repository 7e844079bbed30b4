import { bitClassesOf, nameBitClasses } from '../../report/bit-classes.js';
import type { MetricsEvent } from '../../report/metrics.js';
import type { WorkerTotals } from '../../report/worker-totals.js';
import { sumWorkers, type WorkerTotal, workerKey, workersOf } from '../../report/workers.js';
import type { WorkerInfo } from '../messages.js';
import type { WorkerRate } from './rates.js';
import { brief } from './step-history.js';

/** The current state of a worker, from its coordinator. */
export interface LiveWorker extends Omit<WorkerInfo, 'share' | 'tokensPerSecond' | 'tokens' | 'bits'> {
  readonly totals: Readonly<WorkerTotals>;
}

/** The source of live data. It is asked only while somebody watches. */
export interface LiveSource {
  workers(): readonly LiveWorker[];
  /** Totals of workers that have left since the start. */
  departed?(): readonly WorkerTotal[];
  /** The owner's bit class. */
  readonly bitClass?: string;
  /** The owner's time for sums and updates, since the start. */
  times(): { readonly sumMs: number; readonly updateMs: number };
}

/** Workers listed after they have left: those that computed the most. */
const MOST_LEFT = 50;
/** Ids of workers that have left start here. No live one has such an id. */
const LEFT_IDS = 2 ** 40;

/** All workers of a run, in this start or an earlier one. */
export class WorkerList {
  /** Totals of earlier starts. */
  readonly #before: readonly WorkerTotal[];
  /** All bit classes seen, the owner's first if it is known. */
  #bitClasses: readonly string[];
  #names: ReadonlyMap<string, string>;

  /** `course`: the run's events so far. */
  constructor(course: readonly MetricsEvent[]) {
    this.#before = workersOf(course);
    this.#bitClasses = bitClassesOf(course).classes;
    this.#names = nameBitClasses(this.#bitClasses);
  }

  /** Live workers, then those that have left. `rates`: the workers' rates in the last seconds. */
  all(source: LiveSource | undefined, rates: readonly WorkerRate[]): WorkerInfo[] {
    const rateOf = new Map(rates.map((rate) => [rate.id, rate]));
    const all = rates.reduce((sum, { spent }) => sum + spent.tokens, 0);
    const live = source?.workers() ?? [];
    const gone = sumWorkers([...this.#before, ...(source?.departed?.() ?? [])]);
    const left = new Map(gone.map((total) => [workerKey(total), total]));
    this.#learn([source?.bitClass ?? '', ...live.map(({ bitClass }) => bitClass)]);
    const present = live.map(({ totals, ...worker }) => {
      const { spent, rate } = rateOf.get(worker.id) ?? { spent: undefined, rate: Number.NaN };
      const before = left.get(workerKey(worker));
      // Removed once: of two workers with one key, one has come back.
      left.delete(workerKey(worker));
      return {
        ...worker,
        bits: this.#names.get(worker.bitClass) ?? '',
        share: spent && all > 0 ? brief(spent.tokens / all) : null,
        tokensPerSecond: brief(rate),
        tokens: totals.tokens + (before?.tokens ?? 0),
      };
    });
    const most = [...left.values()].toSorted((a, b) => b.tokens - a.tokens).slice(0, MOST_LEFT);
    const own = source?.bitClass ?? this.#bitClasses[0];
    return [...present, ...most.map((total, i) => this.#left(total, LEFT_IDS + i, own))];
  }

  #left({ name, adapter, bitClass, tokens, computeMs }: WorkerTotal, id: number, own: string): WorkerInfo {
    return {
      id,
      name,
      adapter,
      bitClass,
      bits: this.#names.get(bitClass) ?? '',
      exact: bitClass === '' || bitClass === own,
      state: 'left',
      dealt: 0,
      done: 0,
      share: null,
      tokensPerSecond: brief((1000 * tokens) / computeMs),
      roundTripMs: null,
      tokens,
    };
  }

  #learn(bitClasses: readonly string[]): void {
    const unknown = bitClasses.filter((one) => one !== '' && !this.#names.has(one));
    if (unknown.length === 0) return;
    this.#bitClasses = [...new Set([...this.#bitClasses, ...unknown])];
    this.#names = nameBitClasses(this.#bitClasses);
  }
}
