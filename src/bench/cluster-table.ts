import { parameterCount } from '../model/parameters.js';
import type { ClusterBar } from '../report/cluster-plot.js';
import { formatCount } from '../report/format.js';
import { percent } from './figures.js';
import type { BenchShape } from './shape.js';

export type Scaling = 'train' | 'alone' | 'strong' | 'weak';

/** One line of `--json`. Times are for a step, bytes for a step and worker. Figures of workers are means. */
export interface Setting {
  readonly event: 'bench-cluster';
  readonly scaling: Scaling;
  /** Names of the workers; empty where one process trains alone. */
  readonly workers: readonly string[];
  readonly batch: number;
  readonly steps: number;
  /** The median step. */
  readonly stepMs: number;
  readonly tokensPerSecond: number;
  /** tokens/s of all together, over the sum of each worker's tokens/s alone. */
  readonly efficiency: number | null;
  /** The parts of a worker's step. They add up to `stepMs`. */
  readonly computeMs: number;
  readonly uploadMs: number;
  readonly waitMs: number;
  readonly downloadMs: number;
  /** The coordinator's time, while workers wait or compute. */
  readonly sumMs: number;
  readonly updateMs: number;
  readonly bytesUp: number;
  readonly bytesDown: number;
  readonly bytesUpPerParameter: number;
  readonly bytesDownPerParameter: number;
  /** Assignments that were taken from slow workers and computed again. */
  readonly fences: number;
}

/** Figures of a setting without any measurement. */
export const NOTHING = {
  event: 'bench-cluster',
  efficiency: null,
  uploadMs: 0,
  waitMs: 0,
  downloadMs: 0,
  sumMs: 0,
  updateMs: 0,
  bytesUp: 0,
  bytesDown: 0,
  bytesUpPerParameter: 0,
  bytesDownPerParameter: 0,
  fences: 0,
} as const;

function labelOf({ scaling, workers }: Setting): string {
  if (scaling === 'train') return 'train, no network';
  if (scaling === 'alone') return `${workers[0]} alone`;
  return `${workers.length} workers, ${scaling === 'strong' ? 'same' : 'larger'} batch`;
}

const COLUMNS = [-26, 6, 9, 10, 9, 9, 8, 8, 10, 8, 8, 9, 8] as const;

function columns(cells: readonly string[]): string {
  return cells
    .map((cell, i) => (COLUMNS[i] < 0 ? cell.padEnd(-COLUMNS[i]) : cell.padStart(COLUMNS[i])))
    .join('')
    .trimEnd();
}

/** The table's two header rows. */
export const HEAD = [
  columns(['a step, milliseconds', '', '', '', '', 'worker:', '', '', '', 'coord.:', '', 'MB a', 'worker']),
  columns('setting|batch|step|tokens/s|effic.|compute|upload|wait|download|sum|update|up|down'.split('|')),
];

export function rowOf(s: Setting): string {
  const ms = (value: number) => (s.scaling === 'train' && value === 0 ? '' : value.toFixed(value < 100 ? 1 : 0));
  const mb = (bytes: number) => (s.scaling === 'train' ? '' : (bytes / 1e6).toFixed(2));
  const note = s.fences > 0 ? `   (${s.fences} shares taken away)` : '';
  const cells = [
    labelOf(s),
    String(s.batch),
    ms(s.stepMs),
    s.tokensPerSecond.toFixed(s.tokensPerSecond < 100 ? 1 : 0),
    s.efficiency === null ? '' : percent(s.efficiency),
    ...[s.computeMs, s.uploadMs, s.waitMs, s.downloadMs, s.sumMs, s.updateMs].map(ms),
    mb(s.bytesUp),
    mb(s.bytesDown),
  ];
  return columns(cells) + note;
}

export function barOf(s: Setting): ClusterBar {
  const efficiency = s.efficiency === null ? '' : `, ${percent(s.efficiency)}`;
  return {
    label: labelOf(s),
    figures: `${formatCount(s.tokensPerSecond)} tokens/s${efficiency}`,
    worker: { compute: s.computeMs, upload: s.uploadMs, wait: s.waitMs, download: s.downloadMs },
    coordinator: { sum: s.sumMs, update: s.updateMs },
  };
}

export function titleOf(bench: BenchShape): string {
  const { model, options } = bench;
  return (
    `${parameterCount(model).toLocaleString('en')} parameters, context ${model.context}, ` +
    `batch ${options.batch} in micro-batches of ${bench.shape.batch}`
  );
}
