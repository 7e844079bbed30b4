import type { Timing } from '../gpu/list.js';
import type { Engine } from '../train/engine.js';

interface Row {
  readonly label: string;
  count: number;
  milliseconds: number;
  flops: number;
  bytes: number;
}

/** The dispatches of a list by operation, the slowest first. */
export function summarize(timings: readonly Timing[]): Row[] {
  const rows = new Map<string, Row>();
  for (const t of timings) {
    const row = rows.get(t.label) ?? { label: t.label, count: 0, milliseconds: 0, flops: 0, bytes: 0 };
    row.count++;
    row.milliseconds += t.milliseconds;
    row.flops += t.flops ?? 0;
    row.bytes += t.bytes ?? 0;
    rows.set(t.label, row);
  }
  return [...rows.values()].sort((a, b) => b.milliseconds - a.milliseconds);
}

/**
 * Times every kernel of one micro-batch and one update, as a table. The state is not to be used after that: the
 * micro-batch at hand is run once more and an update is taken.
 */
export async function profileTable(engine: Engine): Promise<string> {
  const { gpu, gpt, optimizer } = engine;
  const gradient = await gpt.gradient.profile(gpu);
  const update: Timing[] = [];
  for (const list of optimizer.lists) update.push(...(await list.profile(gpu)));
  return [
    table('one micro-batch, forward and backward', summarize(gradient)),
    table('one update', summarize(update)),
  ].join('\n');
}

function table(title: string, rows: readonly Row[]): string {
  const total = rows.reduce((sum, r) => sum + r.milliseconds, 0);
  const rate = (amount: number, ms: number) => (amount > 0 && ms > 0 ? (amount / ms / 1e6).toFixed(1) : '');
  const line = (cells: readonly string[]) => cells.map((c, i) => (i === 0 ? c.padEnd(34) : c.padStart(9))).join(' ');
  const lines = rows.map((r) =>
    line([
      r.label,
      String(r.count),
      r.milliseconds.toFixed(2),
      `${((100 * r.milliseconds) / total).toFixed(1)} %`,
      rate(r.flops, r.milliseconds),
      rate(r.bytes, r.milliseconds),
    ]),
  );
  return [
    `${title}: ${total.toFixed(1)} ms`,
    line(['kernel', 'count', 'ms', 'share', 'GFLOP/s', 'GB/s']),
    ...lines,
  ].join('\n');
}
