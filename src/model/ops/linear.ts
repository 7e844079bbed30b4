import type { View } from '../../gpu/view.js';
import type { Dropout, Graph, Rows } from '../graph.js';
import { biasGradient } from './columns.js';

/**
 * y [M, N] = x [M, K] W + b, with W [K, N] and b [N] (if the model has it) of the linear layer `name`. Then either
 * gelu = GELU(y), or dropout and `residual` are applied to y.
 */
export function linear(
  g: Graph,
  name: string,
  v: Rows & { x: View; y: View; gelu?: View; dropout?: Dropout; residual?: View },
): void {
  const weight = g.piece(`${name}.weight`);
  const [k, n] = weight.parameter.shape;
  g.matmul({
    layout: 'NN',
    m: v.rows,
    n,
    k,
    stack: v.stack,
    a: v.x,
    lda: k,
    b: g.operand(weight),
    ldb: n,
    output: {
      kind: 'store',
      c: v.y,
      ldc: n,
      bias: hasBias(g, name) ? g.weights.tensor(`${name}.bias`) : undefined,
      gelu: v.gelu,
      dropout: v.dropout,
      residual: v.residual,
    },
    label: 'linear',
    matrix: weight.parameter.name,
  });
}

/**
 * dx [M, K] = dy [M, N] W^T, times GELU's derivative at `hidden` where that is given. Also adds the gradients of W (x^T dy)
 * and, if there is one, of the bias.
 */
export function linearGradient(g: Graph, name: string, v: Rows & { x: View; dy: View; dx: View; hidden?: View }): void {
  const weight = g.piece(`${name}.weight`);
  const [k, n] = weight.parameter.shape;
  const matrix = weight.parameter.name;
  g.matmul({
    layout: 'NT',
    m: v.rows,
    n: k,
    k: n,
    stack: v.stack,
    a: v.dy,
    lda: n,
    b: g.operand(weight),
    ldb: n,
    output: { kind: 'store', c: v.dx, ldc: k, geluGradient: v.hidden },
    label: 'linear input gradient',
    matrix,
  });
  g.matmul({
    layout: 'TN',
    m: k,
    n,
    k: v.rows,
    stack: v.stack,
    a: v.x,
    lda: k,
    b: v.dy,
    ldb: n,
    output: g.productSums(weight, n),
    label: 'linear weight gradient',
    matrix,
  });
  if (hasBias(g, name)) biasGradient(g, `${name}.bias`, v);
}

function hasBias(g: Graph, name: string): boolean {
  return g.layout.has(`${name}.bias`);
}
