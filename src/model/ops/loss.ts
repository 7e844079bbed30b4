import type { View } from '../../gpu/view.js';
import { extentUniform } from '../extent.js';
import { type Graph, type Rows, rowsIn } from '../graph.js';

/**
 * losses [M] = the cross-entropy of M rows of logits, `stride` values apart, and targets [M]. With the uniform `scale`, the
 * logits are overwritten by their gradients times it.
 */
export function crossEntropy(
  g: Graph,
  v: Rows & { logits: View; targets: View; losses: View; stride: number; scale?: View },
): void {
  const { vocabSize: V } = g.config;
  const { constants, groups } = g.rowWalk(v);
  g.add({
    shader: 'cross_entropy',
    entry: v.scale ? 'gradient' : 'loss',
    constants: { V, STRIDE: v.stride, ...constants },
    bindings: { logits: v.logits, targets: v.targets, losses: v.losses, ...(v.scale && { scale: v.scale }) },
    uniforms: extentUniform({ rows: rowsIn(v) }),
    groups,
    bytes: (v.scale ? 12 : 4) * rowsIn(v) * V,
  });
}

/** total (64 bits, fixed point) += the sum of all losses. */
export function sumLosses(g: Graph, v: { losses: View; total: View; status: View }): void {
  g.add({
    shader: 'cross_entropy',
    entry: 'sumLosses',
    constants: {},
    bindings: { allLosses: v.losses, total: v.total, status: v.status },
    groups: [1],
    bytes: v.losses.size,
  });
}
