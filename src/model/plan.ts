import type { AdapterDescription } from '../gpu/device.js';
import { type AttentionVariant, attentionKernel, defaultAttentionVariant } from './attention.js';
import { DEFAULT_LAYOUT_LIMITS, type LayoutLimits } from './layout.js';
import { defaultMatmulTable, type MatmulTable, type MatmulVariant, matmulKernel } from './matmul-plan.js';

/** The version of the format of plans. Plans of another version cannot run. */
export const PLAN_VERSION = 2;

/** How large tensors are cut. The bits of every run depend on it. */
export interface PlanCuts extends LayoutLimits {
  /** Largest number of logits held at once: the head works in chunks of rows. */
  readonly logitsValues: number;
}

/**
 * Which kernel variants run, and how large tensors are cut: all that decides the order of float operations, apart from the
 * shape. A run's plan is fixed once and kept in its configuration. It never depends on a later timing or on an adapter's
 * limits. In portable arithmetic all variants have one order, so only the cuts are fixed, and each adapter runs its own
 * variants.
 */
export interface Plan extends PlanCuts {
  readonly version: typeof PLAN_VERSION;
  readonly matmul: MatmulTable;
  readonly attention: AttentionVariant;
  /** Threads that share a row in LayerNorm and softmax, and rows that share a workgroup. */
  readonly rowLanes: number;
  readonly rowsPerGroup: number;
  /** Rows of one chunk in sums over rows. */
  readonly columnRows: number;
}

export function defaultPlan(adapter: AdapterDescription): Plan {
  return {
    version: PLAN_VERSION,
    matmul: defaultMatmulTable(adapter),
    attention: defaultAttentionVariant(adapter),
    ...(adapter.software
      ? { rowLanes: 1, rowsPerGroup: 8, columnRows: 64 }
      : { rowLanes: 64, rowsPerGroup: 1, columnRows: 16 }),
    ...DEFAULT_LAYOUT_LIMITS,
    logitsValues: 2 ** 24,
  };
}

/** What `plan` needs and `adapter` lacks, in words; undefined where the plan can run. */
export function missingFor(plan: Plan, adapter: AdapterDescription): string | undefined {
  const sizes: (number | undefined)[] = plan.matmul.map(([, variant]) => matmulKernel(variant).subgroupSize);
  sizes.push(attentionKernel(plan.attention).lanes);
  const missing = sizes.find((size) => size !== undefined && size !== adapter.subgroupSize);
  return missing === undefined ? undefined : `subgroups of ${missing}`;
}

/** The part of a plan that the bits of a portable run depend on. */
export function cutsOf({ windowValues, slabValues, logitsValues }: Plan): PlanCuts {
  return { windowValues, slabValues, logitsValues };
}

/** The adapter's default kernels, with the cuts and chunks of `plan`. Only portable arithmetic keeps its bits. */
export function withOwnKernels(plan: Plan, adapter: AdapterDescription): Plan {
  const { matmul, attention, rowLanes, rowsPerGroup } = defaultPlan(adapter);
  return { ...plan, matmul, attention, rowLanes, rowsPerGroup };
}

/** `plan` with kernels whose sums no compiler reorders. In portable arithmetic the same bits, slower. */
export function withKeptSums(plan: Plan): Plan {
  const kept = <V extends string>(variant: V) => (variant.endsWith('/kept') ? variant : `${variant}/kept`);
  return {
    ...plan,
    matmul: plan.matmul.map(([pattern, variant]) => [pattern, kept(variant) as MatmulVariant]),
    attention: kept(plan.attention) as AttentionVariant,
  };
}

/** `plan` where the adapter can run it. Otherwise the adapter's default kernels, whose bits differ. */
export function runnablePlan(plan: Plan, adapter: AdapterDescription): Plan {
  return missingFor(plan, adapter) === undefined ? plan : withOwnKernels(plan, adapter);
}
