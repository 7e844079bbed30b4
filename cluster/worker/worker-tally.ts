import { sumWorkers, type WorkerTotal, workerKey } from '../../src/report/workers.js';

/** A worker, or the owner's adapter, that has computed something. */
export type Contributor = Pick<WorkerTotal, 'name' | 'adapter' | 'bitClass'>;

/** Contributors that are counted separately. Later ones are counted together. */
const MOST_CONTRIBUTORS = 1000;
const OTHERS: Contributor = { name: 'others', adapter: '', bitClass: '' };

/**
 * What each contributor has computed since the coordinator started, connected or not. Based on what was dealt and came
 * back, never on what a worker says.
 */
export class WorkerTally {
  #totals = new Map<string, WorkerTotal>();
  readonly #told = new Map<string, WorkerTotal>();

  /** `workMs`: measured by the coordinator's clock. */
  credit(who: Contributor, tokens: number, workMs: number): void {
    const { name, adapter, bitClass } = who;
    let key = workerKey(who);
    let total = this.#totals.get(key) ?? { name, adapter, bitClass, tokens: 0, computeMs: 0 };
    // Workers choose their names, so the number of entries needs a limit.
    if (!this.#totals.has(key) && this.#totals.size >= MOST_CONTRIBUTORS) {
      key = workerKey(OTHERS);
      total = this.#totals.get(key) ?? { ...OTHERS, tokens: 0, computeMs: 0 };
    }
    this.#totals.set(key, { ...total, tokens: total.tokens + tokens, computeMs: total.computeMs + workMs });
  }

  /** In the order of their first credit. */
  get all(): readonly WorkerTotal[] {
    return [...this.#totals.values()];
  }

  /** The totals minus those of the workers in `present`, which are listed elsewhere. */
  without(present: Iterable<WorkerTotal>): WorkerTotal[] {
    const gone = [...present].map((total) => ({ ...total, tokens: -total.tokens, computeMs: -total.computeMs }));
    return sumWorkers([...this.#totals.values(), ...gone]).filter(({ tokens }) => tokens > 0);
  }

  /** What each contributor has computed since the last call. */
  takeNews(): WorkerTotal[] {
    return this.all.flatMap((total) => {
      const key = workerKey(total);
      const told = this.#told.get(key);
      const tokens = total.tokens - (told?.tokens ?? 0);
      if (tokens <= 0) return [];
      this.#told.set(key, total);
      return [{ ...total, tokens, computeMs: Math.round(total.computeMs - (told?.computeMs ?? 0)) }];
    });
  }
}
