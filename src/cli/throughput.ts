import { formatCount, formatPercent } from '../report/format.js';
import type { WorkerTotal } from '../report/workers.js';
import type { ThroughputEvent } from '../run/events.js';

/** `workers  a 2.4k   b 2.5k tokens/s while at work`. */
export function throughputLine({ workers }: ThroughputEvent): string {
  const speeds = workers.map(({ name, tokensPerSecond }) => `${name} ${formatCount(tokensPerSecond)}`);
  return `workers  ${speeds.join('   ')} tokens/s while at work`;
}

/** One line for each worker of a run: its part of all tokens, and its speed. */
export function workerLines(workers: readonly WorkerTotal[]): string[] {
  const all = workers.reduce((sum, { tokens }) => sum + tokens, 0);
  return workers.map(({ name, tokens, computeMs }) => {
    const part = `${formatCount(tokens)} tokens (${formatPercent(tokens / all)})`;
    return `worker   ${name}: ${part}, ${formatCount((1000 * tokens) / computeMs)} tokens/s while at work`;
  });
}
