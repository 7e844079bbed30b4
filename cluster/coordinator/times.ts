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

/**
 * Milliseconds in which this process had a chance to hear of others: of a longer pause (a laptop that slept, a process that
 * was stopped) only `mostPauseMs` count. Has to be read more often than that.
 */
export class AwakeClock {
  #ms = 0;
  #readAt: number;

  constructor(
    private readonly mostPauseMs: number,
    at = performance.now(),
  ) {
    this.#readAt = at;
  }

  now(at = performance.now()): number {
    this.#ms += Math.min(at - this.#readAt, this.mostPauseMs);
    this.#readAt = at;
    return this.#ms;
  }
}

/** What a worker has done and where its time went; milliseconds. */
export interface WorkerTotals {
  /** Of the micro-batches of its contributions that are in committed steps. */
  tokens: number;
  /** By the coordinator's clock, from when they were dealt to their last bucket. */
  workMs: number;
  /** As the worker says, and together no more than has passed. */
  computeMs: number;
  uploadMs: number;
  downloadMs: number;
  waitMs: number;
}

const SAID = ['computeMs', 'uploadMs', 'downloadMs', 'waitMs'] as const;

export function emptyTotals(): WorkerTotals {
  return { tokens: 0, workMs: 0, computeMs: 0, uploadMs: 0, downloadMs: 0, waitMs: 0 };
}

/** Adds what a worker says of its times, as far as it fits into the `elapsedMs` since it said so last. */
export function addSaid(
  totals: WorkerTotals,
  said: Readonly<Record<(typeof SAID)[number], number>>,
  elapsedMs: number,
): void {
  let left = elapsedMs;
  for (const key of SAID) {
    const taken = Math.min(said[key], left);
    totals[key] += taken;
    left -= taken;
  }
}
