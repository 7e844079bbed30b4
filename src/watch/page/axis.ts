import { formatCount, formatDuration } from '../../report/format.js';
import { countTick, durationTick } from '../../report/ticks.js';
import type { Columns } from '../messages.js';

/** The quantity on the horizontal axis. */
export type Horizontal = 'step' | 'tokens' | 'time';
export type Range = readonly [from: number, to: number];

/** The label of a tick with all its digits, so that it is exact. */
export function formatHorizontal(x: number, horizontal: Horizontal): string {
  if (horizontal === 'time') return durationTick(x);
  return horizontal === 'tokens' ? countTick(x) : x.toLocaleString('en', { maximumFractionDigits: 12 });
}

/** A position on the axis, with few digits. */
export function formatPosition(x: number, horizontal: Horizontal): string {
  if (horizontal === 'time') return formatDuration(x);
  return horizontal === 'tokens' ? `${formatCount(x)} tokens` : `step ${x.toLocaleString('en')}`;
}

/** The x of each entry. */
export function horizontalOf(
  columns: Pick<Columns, 'step' | 'seconds'>,
  by: Horizontal,
  tokensPerStep: number,
): number[] {
  if (by === 'step') return columns.step;
  if (by === 'tokens') return columns.step.map((step) => step * tokensPerStep);
  return columns.seconds.map((seconds) => seconds ?? 0);
}

/** The range of steps `from` to `to` on the axis. `step`, `x`: the steps of the entries and their positions. */
export function windowOf(from: number, to: number, step: readonly number[], x: readonly number[]): Range {
  return [positionOf(from, step, x), positionOf(to, step, x)];
}

function positionOf(at: number, step: readonly number[], x: readonly number[]): number {
  const after = step.findIndex((one) => one >= at);
  if (after < 0) return x[x.length - 1] ?? at;
  // The first step begins at 0.
  const [s0, x0] = after === 0 ? [0, 0] : [step[after - 1], x[after - 1]];
  const [s1, x1] = [step[after], x[after]];
  return s1 === s0 ? x1 : x0 + ((x1 - x0) * (at - s0)) / (s1 - s0);
}
