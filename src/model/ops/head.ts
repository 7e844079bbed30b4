import type { View } from '../../gpu/view.js';
import { columnsFrom, type Graph, type Rows } from '../graph.js';

/** logits [M, stride] = x [M, C] W^T, where W [V, C] is the head's matrix, window by window. */
export function head(g: Graph, v: Rows & { x: View; logits: View; stride: number }): void {
  const { width: C } = g.config;
  for (const piece of g.headPieces())
    g.matmul({
      layout: 'NT',
      m: v.rows,
      n: piece.rows,
      k: C,
      stack: v.stack,
      a: v.x,
      lda: C,
      b: g.operand(piece),
      ldb: C,
      output: { kind: 'store', c: columnsFrom(v.logits, piece.rowStart), ldc: v.stride },
      label: 'head',
      matrix: piece.parameter.name,
    });
}

/**
 * dx [M, C] = dLogits [M, stride] W, where W [V, C] is the head's matrix. Also adds the gradient of W. `isFirst`: the graph's
 * first pass, which overwrites the sums unless the graph accumulates. `firstBatch`: the stack's micro-batch that the pass begins
 * with or lies in.
 */
export function headGradient(
  g: Graph,
  v: Rows & { x: View; dLogits: View; dx: View; stride: number; isFirst: boolean; firstBatch: number },
): void {
  const { width: C } = g.config;
  for (const [i, piece] of g.headPieces().entries()) {
    const logits = columnsFrom(v.dLogits, piece.rowStart);
    // The gradient of the loss has overwritten the logits; in portable arithmetic it is rounded.
    const a = g.portable ? { ...logits, rounded: true } : logits;
    const matrix = piece.parameter.name;
    g.matmul({
      layout: 'NN',
      m: v.rows,
      n: C,
      k: piece.rows,
      stack: v.stack,
      a,
      lda: v.stride,
      b: g.operand(piece),
      ldb: C,
      output: { kind: 'store', c: v.dx, ldc: C, accumulate: i > 0 },
      label: 'head input gradient',
      matrix,
    });
    g.matmul({
      layout: 'TN',
      m: piece.rows,
      n: C,
      k: v.rows,
      stack: v.stack,
      a,
      lda: v.stride,
      b: v.x,
      ldb: C,
      output: g.productSums(piece, C, g.accumulate || !v.isFirst, v.firstBatch),
      label: 'head weight gradient',
      matrix,
    });
  }
}
