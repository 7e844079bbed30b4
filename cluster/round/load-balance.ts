/**
 * Distributes micro-batches by measured speed, so that all workers end at the same time. Nothing here changes a result,
 * only its time.
 */

/** Assumed milliseconds of a micro-batch before any measurement; only the ratio to others matters. */
const UNKNOWN_MS = 1000;
/** A worker without work is assumed a little faster each step, so that one slow moment does not count for ever. */
const REST = 0.9;
/** Saving less than this fraction of a worker's remaining time is not worth the messages. */
const LEAST_GAIN = 0.2;

/**
 * The time of one micro-batch on a worker: from the assignment to its last contribution, divided by the number of
 * micro-batches. It includes the upload. So the numbers that workers are dealt in proportion to these speeds converge
 * to those with which all workers end at the same time.
 */
export class Speed {
  #microBatchMs: number | undefined;

  /** `weight`: the weight of the newest sample, from 0 to 1. */
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

  /** The worker was given up after `ms` for one micro-batch. */
  slower(ms: number): void {
    this.#microBatchMs = Math.max(this.#microBatchMs ?? 0, ms);
  }

  /** A step without an assignment. */
  rest(): void {
    if (this.#microBatchMs !== undefined) this.#microBatchMs *= REST;
  }
}

/** Milliseconds per micro-batch for each worker; unknown workers get the mean of the known ones. */
export function estimates(speeds: readonly (number | undefined)[]): number[] {
  const known = speeds.filter((ms) => ms !== undefined);
  const mean = known.length > 0 ? known.length / known.reduce((rates, ms) => rates + 1 / ms, 0) : UNKNOWN_MS;
  return speeds.map((ms) => ms ?? mean);
}

export interface WorkerLoad {
  /** Time of the work it already has. */
  readonly loadMs: number;
  readonly microBatchMs: number;
}

/**
 * Distributes `count` micro-batches; returns the number for each worker. Each micro-batch goes to the worker that would
 * finish it first, so equal loads get numbers in proportion to speed. A worker with any pays `overheadMs` once. Ties go
 * to the first worker.
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
 * How many of `unbegun` micro-batches an idle worker should take over from a late one with `late.loadMs` left: as many
 * as let both end together; 0 if the gain is small.
 */
export function handBackCount(unbegun: number, late: WorkerLoad, idle: WorkerLoad, overheadMs: number): number {
  const spare = late.loadMs - idle.loadMs - overheadMs;
  const count = Math.min(unbegun, Math.floor(spare / (late.microBatchMs + idle.microBatchMs)));
  if (count < 1) return 0;
  const end = Math.max(late.loadMs - count * late.microBatchMs, idle.loadMs + overheadMs + count * idle.microBatchMs);
  return late.loadMs - end >= LEAST_GAIN * late.loadMs ? count : 0;
}
