import type { Timing } from '../gpu/list.js';
import type { Engine } from '../train/engine.js';
import type { Ceilings } from './ceiling.js';

export interface KernelRow {
  readonly label: string;
  count: number;
  milliseconds: number;
  flops: number;
  bytes: number;
}

/** Sums the dispatches of a list by operation, or by `nameOf`; the slowest first. */
export function summarize(
  timings: readonly Timing[],
  nameOf: (timing: Timing) => string = ({ label }) => label,
): KernelRow[] {
  const rows = new Map<string, KernelRow>();
  for (const t of timings) {
    const label = nameOf(t);
    const row = rows.get(label) ?? { label, count: 0, milliseconds: 0, flops: 0, bytes: 0 };
    row.count++;
    row.milliseconds += t.milliseconds;
    row.flops += t.flops ?? 0;
    row.bytes += t.bytes ?? 0;
    rows.set(label, row);
  }
  return slowestFirst([...rows.values()]);
}

export function slowestFirst(rows: readonly KernelRow[]): KernelRow[] {
  return [...rows].sort((a, b) => b.milliseconds - a.milliseconds);
}

/** Work per second in units of 10^9; undefined where the amount or the time is 0. */
export function rate(amount: number, milliseconds: number): number | undefined {
  return amount > 0 && milliseconds > 0 ? amount / milliseconds / 1e6 : undefined;
}

/**
 * The time at the adapter's limit, arithmetic or memory, over the time taken: 1 is the limit. Undefined without a time
 * or work.
 */
export function ceilingShare(row: KernelRow, ceilings: Ceilings): number | undefined {
  const { flops, bytes, milliseconds } = row;
  if (milliseconds <= 0 || (flops === 0 && bytes === 0)) return undefined;
  return Math.max(flops / ceilings.gflops, bytes / ceilings.gigabytesPerSecond) / 1e6 / milliseconds;
}

/**
 * Times every kernel of one stack of micro-batches and of one update, as a table. This changes the state: it computes
 * the loaded micro-batches again and takes an update.
 */
export async function profileTable(engine: Engine): Promise<string> {
  const { gpu, gpt, updateLists } = engine;
  const { stack } = gpt;
  const gradient = await gpt.gradientList({ stack, accumulate: false }).profile(gpu);
  const update: Timing[] = [];
  for (const list of updateLists) update.push(...(await list.profile(gpu)));
  return [
    kernelTable(
      `${stack > 1 ? `${stack} micro-batches at once` : 'one micro-batch'}, forward and backward`,
      summarize(gradient),
    ),
    kernelTable('one update', summarize(update)),
  ].join('\n');
}

/** A table of `rows` for people; with `ceilings`, also the percentage of the limit that each kernel reaches. */
export function kernelTable(title: string, rows: readonly KernelRow[], ceilings?: Ceilings): string {
  const total = rows.reduce((sum, r) => sum + r.milliseconds, 0);
  const digits = (value: number | undefined, unit = '') => (value === undefined ? '' : value.toFixed(1) + unit);
  const percent = (share: number | undefined) => digits(share === undefined ? undefined : 100 * share, ' %');
  const width = Math.max(34, ...rows.map((r) => r.label.length));
  const line = (cells: readonly string[]) => cells.map((c, i) => (i === 0 ? c.padEnd(width) : c.padStart(9))).join(' ');
  const lines = rows.map((r) =>
    line([
      r.label,
      String(r.count),
      r.milliseconds.toFixed(2),
      percent(r.milliseconds / total),
      digits(rate(r.flops, r.milliseconds)),
      digits(rate(r.bytes, r.milliseconds)),
      ...(ceilings ? [percent(ceilingShare(r, ceilings))] : []),
    ]),
  );
  const head = ['kernel', 'count', 'ms', 'share', 'GFLOP/s', 'GB/s', ...(ceilings ? ['of limit'] : [])];
  return [`${title}: ${total.toFixed(1)} ms`, line(head), ...lines].join('\n');
}
