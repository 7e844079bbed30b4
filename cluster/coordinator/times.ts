import { performance } from 'node:perf_hooks';
import type { WorkerTotals } from '../../src/report/worker-totals.js';

/** Measures the time during which at least one piece of some kind of work was in progress. */
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
 * Milliseconds during which this process could hear from others. Of a longer pause (a sleeping laptop, a stopped
 * process) only `mostPauseMs` count, so `now` must be called more often than that.
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

const REPORTED = ['computeMs', 'uploadMs', 'downloadMs', 'waitMs'] as const;

/** Adds the times that a worker reports, limited to the `elapsedMs` since its last report. */
export function addReported(
  totals: WorkerTotals,
  reported: Readonly<Record<(typeof REPORTED)[number], number>>,
  elapsedMs: number,
): void {
  let left = elapsedMs;
  for (const key of REPORTED) {
    const taken = Math.min(reported[key], left);
    totals[key] += taken;
    left -= taken;
  }
}
