import { f16Defines, type View, wholeVectors } from '../../gpu/view.js';
import { extentUniform } from '../extent.js';
import { type Dropout, type Graph, type Rows, rowsIn } from '../graph.js';
import { columnSums } from './columns.js';

/** What portable arithmetic multiplies sums over C columns by, instead of a division: 1 / C as float32. */
function inverseWidth(g: Graph): { INVERSE_C?: number } {
  return g.portable ? { INVERSE_C: Math.fround(1 / g.config.width) } : {};
}

/** y = LayerNorm(x) with the parameters `name`. x, y [M, C]; stats [M, 2], written. */
export function norm(g: Graph, name: string, v: Rows & { x: View; y: View; stats: View }): void {
  const { width: C } = g.config;
  const { constants, groups } = g.rowWalk(v);
  g.add({
    shader: 'layernorm',
    entry: 'forward',
    defines: f16Defines({ f16Y: v.y }),
    constants: { C, ...constants, ...inverseWidth(g) },
    bindings: {
      x: wholeVectors(v.x),
      gain: wholeVectors(g.weights.tensor(`${name}.weight`)),
      bias: wholeVectors(g.weights.tensor(`${name}.bias`)),
      y: wholeVectors(v.y),
      stats: v.stats,
    },
    uniforms: extentUniform({ rows: rowsIn(v) }),
    groups,
    bytes: 8 * rowsIn(v) * C,
  });
}

export interface NormGradientViews extends Rows {
  readonly x: View;
  /** Of the forward pass. */
  readonly stats: View;
  /** [M, C] */
  readonly dy: View;
  /** [M, C], written. */
  readonly dx: View;
  /** Whether the gradient adds to dx, which then holds that of the residual stream, or overwrites it. */
  readonly accumulate: boolean;
  /** The dropout that backward goes through next; `gradient` [M, C] becomes dx times its factors. */
  readonly dropout?: Dropout & { readonly gradient: View };
  /** In portable arithmetic, where nothing is dropped: [M, C], becomes dx, rounded for the products that read it. */
  readonly roundedGradient?: View;
}

/** dx (+)= the gradient through LayerNorm. Also adds the gradients of its gain and bias. */
export function normGradient(g: Graph, name: string, v: NormGradientViews): void {
  const { width: C } = g.config;
  const { dropout, roundedGradient } = v;
  const dropped = dropout?.gradient ?? roundedGradient;
  const { constants, groups } = g.rowWalk(v);
  const [x, dy] = [wholeVectors(v.x), wholeVectors(v.dy)];
  const gain = g.piece(`${name}.weight`);
  const bias = g.piece(`${name}.bias`);
  g.add({
    shader: 'layernorm',
    entry: dropout ? 'backwardDropout' : roundedGradient ? 'backwardRounded' : 'backward',
    defines: f16Defines({ f16Gradient: v.dy, f16Dropped: dropped }),
    constants: {
      C,
      ...constants,
      ...inverseWidth(g),
      ACCUMULATE: v.accumulate,
      ...(dropout && { T: dropout.rowsPerSequence }),
    },
    bindings: {
      x,
      gain: wholeVectors(g.weights.piece(gain)),
      savedStats: v.stats,
      dy,
      dx: wholeVectors(v.dx),
      ...(dropped && { dropped: wholeVectors(dropped) }),
      ...(dropout && { dropoutKey: dropout.key }),
    },
    uniforms: extentUniform({ rows: rowsIn(v) }),
    groups,
    label: 'layernorm.backward',
    bytes: (12 + (v.accumulate ? 4 : 0) + (dropped ? 4 : 0)) * rowsIn(v) * C,
  });
  const sums = columnSums(g, v, C, gain, bias);
  g.add({
    ...sums,
    entry: 'norm',
    constants: { ...sums.constants, BIAS_AT: bias.offset - gain.offset },
    bindings: { ...sums.bindings, x, stats: v.stats },
    bytes: 8 * rowsIn(v) * C + 32 * C,
  });
}
