import type { AdapterDescription } from '../gpu/device.js';

/** The fixed subgroup size that a kernel needs of the adapter, if any. */
const SUBGROUP_LANES = { subgroup4: 4, subgroup8: 8, subgroup16: 16, tile: undefined } as const;

type AttentionKernelName = keyof typeof SUBGROUP_LANES;

/**
 * `subgroup4` to `subgroup16` suit software adapters; `tile` runs anywhere. Heads whose size is no multiple of 4, and
 * float16 views, always take `tile`. Views of queries, keys, values, outputs and their gradients are all float16, or none
 * is. `/kept` concerns portable arithmetic only: sums hold against compilers that reorder them, at a price in speed.
 */
export type AttentionVariant = AttentionKernelName | `${AttentionKernelName}/kept`;

export const ATTENTION_VARIANTS = ['subgroup4', 'subgroup8', 'subgroup16', 'tile'] as const;

export const KEPT_ATTENTION_VARIANTS = ATTENTION_VARIANTS.map((name) => `${name}/kept` as const);

export interface AttentionKernel {
  /** The subgroup size that it needs; without one it is `tile`. */
  readonly lanes?: number;
  /** KEEP_SUMS of shaders/attention_portable.wgsl. */
  readonly keepSums: boolean;
}

export function attentionKernel(variant: AttentionVariant): AttentionKernel {
  const [name, kept] = variant.split('/') as [AttentionKernelName, 'kept'?];
  return { lanes: SUBGROUP_LANES[name], keepSums: kept !== undefined };
}

export function defaultAttentionVariant(adapter: AdapterDescription): AttentionVariant {
  if (!adapter.software) return 'tile';
  return ATTENTION_VARIANTS.find((v) => v !== 'tile' && SUBGROUP_LANES[v] === adapter.subgroupSize) ?? 'tile';
}
