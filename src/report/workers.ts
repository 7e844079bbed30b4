import type { MetricsEvent } from './events.js';

/** What a worker has computed. */
export interface WorkerTotal {
  readonly name: string;
  readonly adapter: string;
  readonly bitClass: string;
  readonly tokens: number;
  /** By the coordinator's clock, from when it was dealt work to the last of it. */
  readonly computeMs: number;
}

/** A worker that leaves and comes again, or comes to another start of the run, is the same one. */
export function workerKey({ name, adapter, bitClass }: Pick<WorkerTotal, 'name' | 'adapter' | 'bitClass'>): string {
  return JSON.stringify([name, adapter, bitClass]);
}

/** Sums by worker, in the order in which they came. */
export function sumWorkers(totals: Iterable<WorkerTotal>): WorkerTotal[] {
  const sums = new Map<string, WorkerTotal>();
  for (const { name, adapter, bitClass, tokens, computeMs } of totals) {
    const key = workerKey({ name, adapter, bitClass });
    const before = sums.get(key);
    sums.set(key, {
      name,
      adapter,
      bitClass,
      tokens: (before?.tokens ?? 0) + tokens,
      computeMs: (before?.computeMs ?? 0) + computeMs,
    });
  }
  return [...sums.values()];
}

/** What each worker computed in all starts of a run: each `workers` event is of a part of it. */
export function workersOf(events: readonly MetricsEvent[]): WorkerTotal[] {
  return sumWorkers(events.flatMap((event) => (event.event === 'workers' ? event.workers : [])));
}
