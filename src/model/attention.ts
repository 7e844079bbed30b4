import type { AdapterDescription } from '../gpu/device.js';

/** The fixed subgroup size that a variant needs of the adapter, if any. */
export const SUBGROUP_LANES = { subgroup4: 4, subgroup8: 8, subgroup16: 16, tile: undefined } as const;

/**
 * `subgroup4` to `subgroup16` suit software adapters; `tile` runs anywhere. Heads whose size is no multiple of 4, and
 * float16 views, always take `tile`. Views of queries, keys, values, outputs and their gradients are all float16, or none
 * is.
 */
export type AttentionVariant = keyof typeof SUBGROUP_LANES;

export const ATTENTION_VARIANTS = ['subgroup4', 'subgroup8', 'subgroup16', 'tile'] as const;

export function defaultAttentionVariant(adapter: AdapterDescription): AttentionVariant {
  if (!adapter.software) return 'tile';
  return ATTENTION_VARIANTS.find((v) => v !== 'tile' && SUBGROUP_LANES[v] === adapter.subgroupSize) ?? 'tile';
}
