import { performance } from 'node:perf_hooks';

/** Time in which at least one piece of a kind of work was in hand. */
export class BusyTime {
  #inHand = 0;
  #since = 0;
  #ms = 0;

  begin(): void {
    if (this.#inHand++ === 0) this.#since = performance.now();
  }

  end(): void {
    if (--this.#inHand === 0) this.#ms += performance.now() - this.#since;
  }

  async during<T>(work: Promise<T>): Promise<T> {
    this.begin();
    try {
      return await work;
    } finally {
      this.end();
    }
  }

  get milliseconds(): number {
    return this.#inHand > 0 ? this.#ms + performance.now() - this.#since : this.#ms;
  }
}

/** Where a worker's time went, as its `stats` say, and the tokens it computed. */
export interface WorkerTotals {
  computeMs: number;
  uploadMs: number;
  downloadMs: number;
  waitMs: number;
  tokens: number;
}

export function emptyTotals(): WorkerTotals {
  return { computeMs: 0, uploadMs: 0, downloadMs: 0, waitMs: 0, tokens: 0 };
}

export function addTotals(totals: WorkerTotals, stats: Readonly<WorkerTotals>): void {
  for (const key of ['computeMs', 'uploadMs', 'downloadMs', 'waitMs', 'tokens'] as const) totals[key] += stats[key];
}
