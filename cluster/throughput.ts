import type { ThroughputEvent } from '../src/run/events.js';
import type { RemoteWorker } from './coordinator/members.js';

type WorkTotals = Pick<RemoteWorker['totals'], 'tokens' | 'workMs'>;

/** Tokens per second of each worker: its tokens, divided by the time from dealing them to its last contribution. */
export class Throughput {
  /** Totals of the workers that were connected at the last call. */
  #before: ReadonlyMap<number, WorkTotals> = new Map();

  /** The rates since the last call; undefined if no worker has computed anything. */
  take(members: Iterable<Pick<RemoteWorker, 'id' | 'name' | 'totals'>>): ThroughputEvent | undefined {
    const workers: ThroughputEvent['workers'][number][] = [];
    const now = new Map<number, WorkTotals>();
    for (const { id, name, totals } of members) {
      const { tokens, workMs } = totals;
      const before = this.#before.get(id) ?? { tokens: 0, workMs: 0 };
      now.set(id, { tokens, workMs });
      if (tokens > before.tokens)
        workers.push({ name, tokensPerSecond: (1000 * (tokens - before.tokens)) / (workMs - before.workMs) });
    }
    this.#before = now;
    return workers.length > 0 ? { event: 'throughput', workers } : undefined;
  }
}
