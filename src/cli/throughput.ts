import type { Member } from '../../cluster/coordinator.js';
import { formatCount, formatPercent } from '../report/format.js';
import type { WorkerTotal } from '../report/workers.js';

/** What each worker computes: its tokens by the time from when it was dealt them to when it had sent all. */
export class Throughput {
  readonly #tokens = new Map<number, number>();
  readonly #workMs = new Map<number, number>();

  /** `workers  a 2.4k   b 2.5k tokens/s while at work`, since the last call; undefined when nobody has computed since. */
  line(members: Iterable<Member>): string | undefined {
    const speeds: string[] = [];
    for (const { id, name, totals } of members) {
      const tokens = totals.tokens - (this.#tokens.get(id) ?? 0);
      const milliseconds = totals.workMs - (this.#workMs.get(id) ?? 0);
      this.#tokens.set(id, totals.tokens);
      this.#workMs.set(id, totals.workMs);
      if (tokens > 0) speeds.push(`${name} ${speed(tokens, milliseconds)}`);
    }
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
