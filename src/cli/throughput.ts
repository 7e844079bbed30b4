import type { RemoteWorker } from '../../cluster/coordinator/members.js';
import { formatCount, formatPercent } from '../report/format.js';
import type { WorkerTotal } from '../report/workers.js';

type WorkTotals = Pick<RemoteWorker['totals'], 'tokens' | 'workMs'>;

/** What each worker computes: its tokens by the time from when it was dealt them to when it had sent all. */
export class Throughput {
  /** Of those who were there at the last call. */
  #before: ReadonlyMap<number, WorkTotals> = new Map();

  /** `workers  a 2.4k   b 2.5k tokens/s while at work`, since the last call; undefined when nobody has computed since. */
  line(members: Iterable<Pick<RemoteWorker, 'id' | 'name' | 'totals'>>): string | undefined {
    const speeds: string[] = [];
    const now = new Map<number, WorkTotals>();
    for (const { id, name, totals } of members) {
      const { tokens, workMs } = totals;
      const before = this.#before.get(id) ?? { tokens: 0, workMs: 0 };
      now.set(id, { tokens, workMs });
      if (tokens > before.tokens) speeds.push(`${name} ${speed(tokens - before.tokens, workMs - before.workMs)}`);
    }
    this.#before = now;
    return speeds.length > 0 ? `workers  ${speeds.join('   ')} tokens/s while at work` : undefined;
  }
}

/** One line for each worker of a run: its part of what all have computed, and its speed. */
export function workerLines(workers: readonly WorkerTotal[]): string[] {
  const all = workers.reduce((sum, { tokens }) => sum + tokens, 0);
  return workers.map(({ name, tokens, computeMs }) => {
    const part = `${formatCount(tokens)} tokens (${formatPercent(tokens / all)})`;
    return `worker   ${name}: ${part}, ${speed(tokens, computeMs)} tokens/s while at work`;
  });
}

function speed(tokens: number, milliseconds: number): string {
  return formatCount((1000 * tokens) / milliseconds);
}
