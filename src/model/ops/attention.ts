import { LantrainError } from '../../errors.js';
import type { Dispatch } from '../../gpu/list.js';
import type { View } from '../../gpu/view.js';
import { type AttentionKernel, type AttentionVariant, attentionKernel } from '../attention.js';
import type { Graph } from '../graph.js';
import type { Plan } from '../plan.js';

/** The part of a graph that attention needs. */
type AttentionGraph = Pick<Graph, 'add'> &
  Partial<Pick<Graph, 'portable'>> & { readonly plan: Pick<Plan, 'attention'> };

export interface AttentionShape {
  readonly batch: number;
  /** Tokens of a sequence (T). */
  readonly context: number;
  readonly heads: number;
  /** Values of a head (D), 1 to 128. */
  readonly headSize: number;
}

export interface AttentionForwardViews {
  /** [B * T, 3C]: a row is a token, columns q | k | v, head h at columns h * D. */
  readonly qkv: View;
  /** [B * T, C], written. */
  readonly out: View;
  /** [B, H, T], written: the logarithm of each row's sum of exponentials, natural or in portable arithmetic to base 2. */
  readonly logsumexp: View;
  /** Uniform DropoutKey (shaders/random.wgsl); without it nothing is dropped. */
  readonly dropout?: View;
}

export interface AttentionBackwardViews {
  readonly qkv: View;
  readonly out: View;
  readonly logsumexp: View;
  /** [B * T, C] */
  readonly outGradient: View;
  /** Scratch, [B, H, T]. */
  readonly delta: View;
  /** [B * T, 3C], written whole. */
  readonly qkvGradient: View;
  readonly dropout?: View;
}

const TILE_ROWS = 32;

/** The workgroup memory that every adapter has, for rows that lanes keep there. */
const KEPT_BYTES = 16384;

/** Tokens of a workgroup of `backwardDelta`. */
const DELTA_ROWS = 8;

/**
 * Causal attention with scores scaled by 1/sqrt(D) and dropout on the probabilities: out = (f * softmax(S)) V, where the
 * factor of (sequence b, head h, query i, key j) is dropoutFactor(key, firstSlot + b, (h * T + i) * T + j).
 */
export function attention(g: AttentionGraph, shape: AttentionShape, v: AttentionForwardViews): void {
  const kernel = kernelFor(g.plan.attention, shape, v.qkv.f16);
  const { qkv, out, logsumexp, dropout } = v;
  g.add(dispatch(g, kernel, shape, 'forward', rowsOf(kernel), 2, { qkv, out, logsumexp }, dropout));
}

/** The gradient of `attention`, from its results and under the same dropout key. */
export function attentionGradient(g: AttentionGraph, shape: AttentionShape, v: AttentionBackwardViews): void {
  const kernel = kernelFor(g.plan.attention, shape, v.qkv.f16);
  const { qkv, outGradient, qkvGradient, delta, dropout } = v;
  const outRead = v.out;
  const logsumexpRead = v.logsumexp;
  const rows = rowsOf(kernel);
  const common = { qkv, outGradient, logsumexpRead, qkvGradient };
  if (kernel.lanes === undefined) {
    g.add(dispatch(g, kernel, shape, 'backwardDelta', DELTA_ROWS, 0, { outRead, outGradient, delta }));
    g.add(dispatch(g, kernel, shape, 'backwardQuery', rows, 3, { ...common, deltaRead: delta }, dropout));
  } else {
    g.add(dispatch(g, kernel, shape, 'backwardQuery', rows, 3, { ...common, outRead, delta }, dropout));
  }
  g.add(dispatch(g, kernel, shape, 'backwardKey', rows, 4, { ...common, deltaRead: delta }, dropout));
}

/** Rows that a workgroup owns. */
function rowsOf({ lanes }: AttentionKernel): number {
  return lanes === undefined ? TILE_ROWS : 2 * lanes;
}

function kernelFor(variant: AttentionVariant, { headSize }: AttentionShape, f16 = false): AttentionKernel {
  if (!Number.isInteger(headSize) || headSize < 1 || headSize > 128)
    throw new LantrainError(
      'LT_USAGE_MODEL',
      `heads of ${headSize} values: attention computes heads of 1 to 128; choose --heads so that width / heads is at most 128`,
    );
  const kernel = attentionKernel(variant);
  return headSize % 4 === 0 && !f16 ? kernel : { keepSums: kernel.keepSums };
}

/** `products` is the number of T x T x D matrix products; the causal half of each is computed. */
function dispatch(
  { portable = false }: AttentionGraph,
  { lanes, keepSums }: AttentionKernel,
  shape: AttentionShape,
  entry: string,
  rows: number,
  products: number,
  bindings: Record<string, View>,
  dropout?: View,
): Dispatch {
  const { batch, context, heads, headSize } = shape;
  const scale = 1 / Math.sqrt(headSize);
  return {
    shader: lanes === undefined ? 'attention_tile' : 'attention_subgroup',
    entry: dropout ? `${entry}Dropout` : entry,
    constants: {
      ...(lanes !== undefined && { LANES: lanes, KEPT: 8 * headSize * 4 * lanes <= KEPT_BYTES }),
      T: context,
      HEADS: heads,
      D: headSize,
      ...(portable
        ? { SCALE: Math.fround(scale), SCALE2: Math.fround(Math.LOG2E / Math.sqrt(headSize)), KEEP_SUMS: keepSums }
        : { SCALE: scale }),
      DROPOUT: dropout !== undefined,
    },
    defines: Object.values(bindings).some((view) => view.f16) ? ['f16'] : [],
    bindings: dropout ? { ...bindings, dropout } : bindings,
    groups: [Math.ceil(context / rows), heads, batch],
    label: `attention.${entry}`,
    flops: products * batch * heads * context * (context + 1) * headSize,
  };
}
