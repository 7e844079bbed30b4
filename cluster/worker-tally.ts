import { sumWorkers, type WorkerTotal, workerKey } from '../src/report/workers.js';

/** What the workers of one start of a coordinator have computed: those that are there, and those that have left. */
export class WorkerTally {
  readonly #left: WorkerTotal[] = [];
  readonly #told = new Map<string, WorkerTotal>();

  /** A worker leaves. What it computed stays. */
  left(total: WorkerTotal): void {
    if (total.tokens > 0) this.#left.splice(0, this.#left.length, ...sumWorkers([...this.#left, total]));
  }

  /** Of those that have left. */
  get departed(): readonly WorkerTotal[] {
    return this.#left;
  }

  /** What each has computed since the last call; `present` are those that are there. */
  takeNews(present: Iterable<WorkerTotal>): WorkerTotal[] {
    return sumWorkers([...this.#left, ...present]).flatMap((total) => {
      const key = workerKey(total);
      const told = this.#told.get(key);
      const tokens = total.tokens - (told?.tokens ?? 0);
      if (tokens <= 0) return [];
      this.#told.set(key, total);
      return [{ ...total, tokens, computeMs: Math.round(total.computeMs - (told?.computeMs ?? 0)) }];
    });
  }
}
