/**
 * How micro-batches are shared out: by measured speed, so that all are done at the same time. Nothing here changes a
 * result, only when it is there.
 */

/** Assumed for the first share where nothing is known; only its ratio to others matters. */
const UNKNOWN_MS = 1000;
/** A worker that had nothing to do is thought a little faster each step, so that one slow moment is not for ever. */
const REST = 0.9;
/** Moving less than this part of what a worker has left is not worth the messages. */
const LEAST_GAIN = 0.2;

/**
 * What one micro-batch costs a worker, all in: the time from a share's assignment to its last contribution, divided by
 * the share. The upload counts, so shares in proportion to these speeds settle where all end together.
 */
export class Speed {
  #microBatchMs: number | undefined;

  /** `weight`: of the newest sample. */
  constructor(readonly weight: number) {}

  get microBatchMs(): number | undefined {
    return this.#microBatchMs;
  }

  sample(microBatches: number, ms: number): void {
    const each = Math.max(ms, 1e-3) / microBatches;
    const old = this.#microBatchMs;
    // Rates are averaged, not times: one very slow step does not outweigh many good ones.
    this.#microBatchMs = old === undefined ? each : 1 / (this.weight / each + (1 - this.weight) / old);
  }

  /** It was given up on after `ms` for one micro-batch. */
  slower(ms: number): void {
    this.#microBatchMs = Math.max(this.#microBatchMs ?? 0, ms);
  }

  /** A step in which it had no share. */
  rest(): void {
    if (this.#microBatchMs !== undefined) this.#microBatchMs *= REST;
  }
}

/** Estimates for all: who is unknown is taken for as fast as the mean of those who are known. */
export function estimates(speeds: readonly (number | undefined)[]): number[] {
  const known = speeds.filter((ms) => ms !== undefined);
  const mean = known.length > 0 ? known.length / known.reduce((rates, ms) => rates + 1 / ms, 0) : UNKNOWN_MS;
  return speeds.map((ms) => ms ?? mean);
}

export interface WorkerLoad {
  /** What the worker has to do already. */
  readonly loadMs: number;
  readonly microBatchMs: number;
}

/**
 * Shares of `count` micro-batches, one a load: each goes where it is done first, which is in proportion to speed where
 * loads are equal. Whoever gets any pays `overheadMs` once. Equal loads are served in order.
 */
export function deal(count: number, loads: readonly WorkerLoad[], overheadMs: number): number[] {
  const counts = loads.map(() => 0);
  const ends = loads.map((load) => load.loadMs + overheadMs + load.microBatchMs);
  for (let i = 0; i < count; i++) {
    let best = 0;
    for (let l = 1; l < loads.length; l++) if (ends[l] < ends[best]) best = l;
    counts[best]++;
    ends[best] += loads[best].microBatchMs;
  }
  return counts;
}

/**
 * How many of `unbegun` micro-batches an idle worker should take over from a late one that has `late.loadMs` left in
 * all: as many as let both end together; 0 when little would be won.
 */
export function handBackCount(unbegun: number, late: WorkerLoad, idle: WorkerLoad, overheadMs: number): number {
  const spare = late.loadMs - idle.loadMs - overheadMs;
  const count = Math.min(unbegun, Math.floor(spare / (late.microBatchMs + idle.microBatchMs)));
  if (count < 1) return 0;
  const end = Math.max(late.loadMs - count * late.microBatchMs, idle.loadMs + overheadMs + count * idle.microBatchMs);
  return late.loadMs - end >= LEAST_GAIN * late.loadMs ? count : 0;
}
