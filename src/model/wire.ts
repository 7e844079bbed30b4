/**
 * In which form gradients and weights travel in a cluster. Both are exact sums of integers, and a run has one digest alone and
 * in a cluster. `exact`: gradients are rounded to multiples of 2^-40, and weights are sent in full. `low`: gradients are
 * rounded to coarser multiples, at random and without bias, and weights move in steps of a power of two: a seventh of the
 * bytes. See docs/low-wire.md.
 */
export const WIRES = ['exact', 'low'] as const;
export type Wire = (typeof WIRES)[number];
