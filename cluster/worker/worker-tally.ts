import { sumWorkers, type WorkerTotal, workerKey } from '../../src/report/workers.js';

/** Who has computed something. */
export type Contributor = Pick<WorkerTotal, 'name' | 'adapter' | 'bitClass'>;

/** Contributors that are told apart; whoever comes later is one with all others who do. */
const MOST_CONTRIBUTORS = 1000;
const OTHERS: Contributor = { name: 'others', adapter: '', bitClass: '' };

/**
 * What the contributors of one start of a coordinator have computed, whether they are still there or not: by what was
 * dealt to them and came back, never by what they say.
 */
export class WorkerTally {
  #totals = new Map<string, WorkerTotal>();
  readonly #told = new Map<string, WorkerTotal>();

  /** `workMs`: by the coordinator's clock. */
  credit(who: Contributor, tokens: number, workMs: number): void {
    const { name, adapter, bitClass } = who;
    let key = workerKey(who);
    let total = this.#totals.get(key) ?? { name, adapter, bitClass, tokens: 0, computeMs: 0 };
    // Names are free, so that their number needs an end.
    if (!this.#totals.has(key) && this.#totals.size >= MOST_CONTRIBUTORS) {
      key = workerKey(OTHERS);
      total = this.#totals.get(key) ?? { ...OTHERS, tokens: 0, computeMs: 0 };
    }
    this.#totals.set(key, { ...total, tokens: total.tokens + tokens, computeMs: total.computeMs + workMs });
  }

  /** In the order in which they came. */
  get all(): readonly WorkerTotal[] {
    return [...this.#totals.values()];
  }

  /** Less what those computed that are `present`, which is said of them elsewhere. */
  without(present: Iterable<WorkerTotal>): WorkerTotal[] {
    const gone = [...present].map((total) => ({ ...total, tokens: -total.tokens, computeMs: -total.computeMs }));
    return sumWorkers([...this.#totals.values(), ...gone]).filter(({ tokens }) => tokens > 0);
  }

  /** What each has computed since the last call. */
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
