import type { MetricsEvent } from './events.js';

/** The work of one worker. */
export interface WorkerTotal {
  readonly name: string;
  readonly adapter: string;
  readonly bitClass: string;
  readonly tokens: number;
  /** Milliseconds by the coordinator's clock, from each assignment to its last result. */
  readonly computeMs: number;
}

/** The key of a worker. It is the same after the worker or the coordinator has restarted. */
export function workerKey({ name, adapter, bitClass }: Pick<WorkerTotal, 'name' | 'adapter' | 'bitClass'>): string {
  return JSON.stringify([name, adapter, bitClass]);
}

/** Sums `totals` by worker, in the order of their first appearance. */
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

/** The total of each worker over all starts of a run, from its `workers` events. */
export function workersOf(events: readonly MetricsEvent[]): WorkerTotal[] {
  return sumWorkers(events.flatMap((event) => (event.event === 'workers' ? event.workers : [])));
}
