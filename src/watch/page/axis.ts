import { formatCount, formatDuration } from '../../report/format.js';
import { countTick, durationTick } from '../../report/ticks.js';
import type { Columns } from '../messages.js';

/** What curves are drawn over. */
export type Horizontal = 'step' | 'tokens' | 'time';
export type Range = readonly [from: number, to: number];

/** All of it: the label of a tick, which must not say another place than it stands at. */
export function formatHorizontal(x: number, horizontal: Horizontal): string {
  if (horizontal === 'time') return durationTick(x);
  return horizontal === 'tokens' ? countTick(x) : x.toLocaleString('en', { maximumFractionDigits: 12 });
}

/** A place on the axis, in few digits. */
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

/** Where steps `from` to `to` begin and end on the axis, if entries have these x. */
export function windowOf(from: number, to: number, step: readonly number[], x: readonly number[]): Range {
  return [placeOf(from, step, x), placeOf(to, step, x)];
}

function placeOf(at: number, step: readonly number[], x: readonly number[]): number {
  const after = step.findIndex((one) => one >= at);
  if (after < 0) return x[x.length - 1] ?? at;
  // The first step begins where everything does.
  const [s0, x0] = after === 0 ? [0, 0] : [step[after - 1], x[after - 1]];
  const [s1, x1] = [step[after], x[after]];
  return s1 === s0 ? x1 : x0 + ((x1 - x0) * (at - s0)) / (s1 - s0);
}
