import type { AdapterDescription } from '../gpu/device.js';

/** Lanes that the adapter's subgroups must have, always, for a variant that relies on them. */
export const SUBGROUP_LANES = { subgroup4: 4, subgroup8: 8, subgroup16: 16, tile: undefined } as const;

/**
 * `subgroup4` to `subgroup16` suit software adapters; `tile` runs anywhere. Heads whose size is not a multiple of 4, and
 * float16 views, go by `tile` whatever the variant. Either all views of queries, keys, values, outputs and their gradients
 * are float16 or none.
 */
export type AttentionVariant = keyof typeof SUBGROUP_LANES;

export const ATTENTION_VARIANTS = ['subgroup4', 'subgroup8', 'subgroup16', 'tile'] as const;

export function defaultAttentionVariant(adapter: AdapterDescription): AttentionVariant {
  if (!adapter.software) return 'tile';
  return ATTENTION_VARIANTS.find((v) => v !== 'tile' && SUBGROUP_LANES[v] === adapter.subgroupSize) ?? 'tile';
}
