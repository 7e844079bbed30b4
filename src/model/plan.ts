import type { AdapterDescription } from '../gpu/device.js';
import { type AttentionVariant, defaultAttentionVariant } from './attention.js';
import { DEFAULT_LAYOUT_LIMITS, type LayoutLimits } from './layout.js';
import { defaultMatmulVariant, type MatmulVariant } from './matmul.js';

/**
 * Which kernel variant runs, and how large tensors are cut: all that decides the order of float operations apart from
 * the shape. Fixed once and kept in the run's configuration; never a timing, never an adapter's limit.
 */
export interface Plan extends LayoutLimits {
  readonly version: 1;
  readonly matmul: MatmulVariant;
  readonly attention: AttentionVariant;
  /** Threads that share a row in LayerNorm and softmax, and rows that share a workgroup. */
  readonly rowLanes: number;
  readonly rowsPerGroup: number;
  /** Most logits held at once, in values: the head works in chunks of rows. */
  readonly logitsValues: number;
  /** Rows of one chunk in sums over rows. */
  readonly columnRows: number;
}

export function defaultPlan(adapter: AdapterDescription): Plan {
  return {
    version: 1,
    matmul: defaultMatmulVariant(adapter),
    attention: defaultAttentionVariant(adapter),
    ...(adapter.software ? { rowLanes: 1, rowsPerGroup: 8 } : { rowLanes: 64, rowsPerGroup: 1 }),
    ...DEFAULT_LAYOUT_LIMITS,
    logitsValues: 2 ** 24,
    columnRows: 64,
  };
}

/** Whether the adapter has the subgroups that the plan's kernels need. */
export function runsPlan({ matmul, attention }: Plan, { subgroupSize }: AdapterDescription): boolean {
  return [matmul, attention].every((variant) => {
    const lanes = /^subgroup(\d+)$/.exec(variant)?.[1];
    return lanes === undefined || Number(lanes) === subgroupSize;
  });
}

/**
 * `plan` where the adapter can run it, else the adapter's own kernels in the plan's layout: the same buffers and
 * chunks, other bits.
 */
export function runnablePlan(plan: Plan, adapter: AdapterDescription): Plan {
  if (runsPlan(plan, adapter)) return plan;
  const { matmul, attention, rowLanes, rowsPerGroup } = defaultPlan(adapter);
  return { ...plan, matmul, attention, rowLanes, rowsPerGroup };
}
