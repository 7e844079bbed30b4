import { slice, type View } from '../gpu/view.js';
import type { Buffers } from './buffers.js';
import { keyOf, Site } from './dropout.js';
import { type Dropout, type Graph, type Rows, rowsIn } from './graph.js';
import { attention, attentionGradient } from './ops/attention.js';
import { cachedAttention, embedToken } from './ops/decode.js';
import { embedding, embeddingGradient } from './ops/embedding.js';
import { head, headGradient } from './ops/head.js';
import { linear, linearGradient } from './ops/linear.js';
import { crossEntropy, sumLosses } from './ops/loss.js';
import { norm, normGradient } from './ops/norm.js';
import { type BatchShape, headPasses, logitsStride } from './shape.js';

/*
 * The model: forward in order, backward in reverse, each line one operation. Nothing here needs a device: products.ts
 * records the same spine to find the matrix products.
 */

/** The inputs of the training spine besides the parameters. */
export interface TrainingViews {
  /** The graph's shape, with the stack of the list that is being built. */
  readonly shape: BatchShape & { readonly stack: number };
  readonly buffers: Buffers<'training'>;
  /** The dropout keys of all sites. */
  readonly keys: View;
  /** Uniform: the factor of each token's loss. */
  readonly scale: View;
}

/** A training step without the update: adds the gradients and the losses of a stack to the sums. */
export function addGradient(g: Graph, t: TrainingViews): void {
  addForward(g, t, true);
  addHead(g, t, true);
  addBackward(g, t);
}

/** The forward pass without dropout: adds the losses only. */
export function addLoss(g: Graph, t: TrainingViews): void {
  addForward(g, t, false);
  addHead(g, t, false);
}

/** From tokens to the last norm. Only with `training` is anything dropped. */
function addForward(g: Graph, t: TrainingViews, training: boolean): void {
  const { layers } = g.config;
  const { view } = t.buffers;
  const { context } = t.shape;
  const rows = rowsOf(t.shape);
  const drops = dropoutOf(t, training)(Site.embedding) !== undefined;
  const key = keyOf(t.keys, Site.embedding);
  embedding(g, { tokens: view('tokens'), x: view('x', 0), ...rows, context, key, dropout: drops });
  for (let l = 0; l < layers; l++) forwardLayer(g, l, trainingLayer(g, t, l, training));
  norm(g, 'ln_f', { x: view('x', layers), y: view('final'), stats: view('finalStats'), ...rows });
}

/** A layer, for training and for sampling. */
function forwardLayer(g: Graph, l: number, v: LayerViews): void {
  layerInside(g, l, v);
  const dropout = v.dropout(Site.feedForward(l));
  linear(g, `h.${l}.mlp.c_proj`, { x: v.gelu, y: v.y, ...v.rows, dropout, residual: v.middle });
}

/** The part of a layer that its backward reads: what recomputation computes again. */
function layerInside(g: Graph, l: number, v: LayerViews): void {
  const { x, norm1, qkv, middle, norm2, rows } = v;
  const h = `h.${l}`;
  const dropout = v.dropout(Site.attentionProjection(l));
  norm(g, `${h}.ln_1`, { x, y: norm1, stats: v.stats1, ...rows });
  linear(g, `${h}.attn.c_attn`, { x: norm1, y: qkv, ...rows });
  v.attend();
  linear(g, `${h}.attn.c_proj`, { x: v.attention, y: middle, ...rows, dropout, residual: x });
  norm(g, `${h}.ln_2`, { x: middle, y: norm2, stats: v.stats2, ...rows });
  linear(g, `${h}.mlp.c_fc`, { x: norm2, y: v.hidden, ...rows, gelu: v.gelu });
}

/** The head and its loss, in passes over some rows each. With `training` also the head's gradients, as far as dNorm. */
function addHead(g: Graph, t: TrainingViews, training: boolean): void {
  const { width: C } = g.config;
  const { view } = t.buffers;
  const stride = logitsStride(g.config);
  const logits = view('logits');
  for (const [i, { start, rows, stack }] of headPasses(g.config, t.shape, g.plan).entries()) {
    const all = rows * stack;
    const x = slice(view('final'), start * C, all * C);
    const targets = slice(view('targets'), start, all);
    const losses = slice(view('losses'), start, all);
    head(g, { x, logits, rows, stack, stride });
    crossEntropy(g, { logits, targets, losses, rows, stack, stride, scale: training ? t.scale : undefined });
    const dx = training ? slice(view('dNorm'), start * C, all * C) : undefined;
    const firstBatch = Math.floor(start / rowsOf(t.shape).rows);
    if (dx) headGradient(g, { x, dLogits: logits, dx, rows, stack, stride, isFirst: i === 0, firstBatch });
  }
  const losses = slice(view('losses'), 0, rowsIn(rowsOf(t.shape)));
  sumLosses(g, { losses, total: g.sums.loss, status: g.sums.lossStatus });
}

/** From dNorm, the gradient behind the last norm, to the gradients of the embedding. */
function addBackward(g: Graph, t: TrainingViews): void {
  const { layers } = g.config;
  const { shape } = t;
  const { view } = t.buffers;
  const rows = rowsOf(shape);
  const dropout = dropoutOf(t, true);
  const [dx, dNorm, dHidden, dAttention, dQkv] = [
    view('dx'),
    view('dNorm'),
    view('dHidden'),
    view('dAttention'),
    view('dQkv'),
  ];
  const passes = shape.dropout > 0 || g.portable;
  const dropped = passes ? view('dDropped') : dx;
  /** How the gradient goes on from a norm to `site`: through its dropout, or rounded in portable arithmetic. */
  const before = (site: number) => {
    const next = dropout(site);
    if (next) return { dropout: { ...next, gradient: dropped } };
    return passes ? { roundedGradient: dropped } : {};
  };

  const last = { x: view('x', layers), stats: view('finalStats'), dy: dNorm, dx, ...rows };
  normGradient(g, 'ln_f', { ...last, accumulate: false, ...before(Site.feedForward(layers - 1)) });
  for (let l = layers - 1; l >= 0; l--) {
    // The last layer's buffers still hold the forward pass.
    if (shape.recompute && l < layers - 1) layerInside(g, l, trainingLayer(g, t, l, true));
    const h = `h.${l}`;
    const [qkv, out, hidden] = [view('qkv', l), view('attention', l), view('hidden', l)];
    const [stats1, stats2] = [view('stats1', l), view('stats2', l)];
    const toResidual = { dy: dNorm, dx, accumulate: true, ...rows };
    const toProjection = before(Site.attentionProjection(l));
    const below = before(l > 0 ? Site.feedForward(l - 1) : Site.embedding);
    linearGradient(g, `${h}.mlp.c_proj`, { x: view('gelu', l), dy: dropped, dx: dHidden, hidden, ...rows });
    linearGradient(g, `${h}.mlp.c_fc`, { x: view('norm2', l), dy: dHidden, dx: dNorm, ...rows });
    normGradient(g, `${h}.ln_2`, { x: view('middle', l), stats: stats2, ...toResidual, ...toProjection });
    linearGradient(g, `${h}.attn.c_proj`, { x: out, dy: dropped, dx: dAttention, ...rows });
    attentionGradient(g, attentionShape(g, shape), {
      qkv,
      out,
      logsumexp: view('logsumexp', l),
      outGradient: dAttention,
      delta: view('delta'),
      qkvGradient: dQkv,
      dropout: dropout(Site.attention(l))?.key,
    });
    linearGradient(g, `${h}.attn.c_attn`, { x: view('norm1', l), dy: dQkv, dx: dNorm, ...rows });
    normGradient(g, `${h}.ln_1`, { x: view('x', l), stats: stats1, ...toResidual, ...below });
  }
  embeddingGradient(g, { dx: dropped, lists: view('lists'), ...rows, context: shape.context });
}

/** Sampling: from one token and its position to the logits of the next, with the kept keys and values of tokens before. */
export function decode(g: Graph, buffers: Buffers<'sampling'>): void {
  const { config } = g;
  const { view } = buffers;
  const rows = { rows: 1 };
  const place = view('token');
  embedToken(g, { place, x: view('x', 0) });
  for (let l = 0; l < config.layers; l++) {
    const [qkv, out] = [view('qkv', l), view('attention', l)];
    const views: LayerViews = {
      x: view('x', l),
      norm1: view('norm1', l),
      stats1: view('stats1', l),
      qkv,
      attention: out,
      middle: view('middle', l),
      norm2: view('norm1', l),
      stats2: view('stats1', l),
      hidden: view('hidden', l),
      gelu: view('gelu', l),
      y: view('x', l + 1),
      rows,
      dropout: () => undefined,
      attend: () => cachedAttention(g, { place, qkv, cache: view('cache', l), scores: view('scores'), out }),
    };
    forwardLayer(g, l, views);
  }
  const [x, y, stats] = [view('x', config.layers), view('norm1', 0), view('stats1', 0)];
  norm(g, 'ln_f', { x, y, stats, ...rows });
  head(g, { x: y, logits: view('logits'), ...rows, stride: logitsStride(config) });
}

/** The views of one layer (`buffers.ts`; y is the residual stream behind it), and what differs in sampling. */
interface LayerViews extends Readonly<Record<LayerBuffer, View>> {
  readonly rows: Rows;
  readonly dropout: DropoutAt;
  /** Adds the dispatches of attention, from qkv to `attention`. */
  readonly attend: () => void;
}

type LayerBuffer =
  | 'x'
  | 'norm1'
  | 'stats1'
  | 'qkv'
  | 'attention'
  | 'middle'
  | 'norm2'
  | 'stats2'
  | 'hidden'
  | 'gelu'
  | 'y';

function trainingLayer(g: Graph, t: TrainingViews, l: number, training: boolean): LayerViews {
  const { view } = t.buffers;
  const dropout = dropoutOf(t, training);
  const [qkv, out] = [view('qkv', l), view('attention', l)];
  return {
    x: view('x', l),
    norm1: view('norm1', l),
    stats1: view('stats1', l),
    qkv,
    attention: out,
    middle: view('middle', l),
    norm2: view('norm2', l),
    stats2: view('stats2', l),
    hidden: view('hidden', l),
    gelu: view('gelu', l),
    y: view('x', l + 1),
    rows: rowsOf(t.shape),
    dropout,
    attend: () => {
      const views = { qkv, out, logsumexp: view('logsumexp', l), dropout: dropout(Site.attention(l))?.key };
      attention(g, attentionShape(g, t.shape), views);
    },
  };
}

function rowsOf({ batch, context, stack }: TrainingViews['shape']): Rows {
  return { rows: batch * context, stack };
}

/** The dropout of `site`; undefined where nothing is dropped. */
type DropoutAt = (site: number) => Dropout | undefined;

function dropoutOf({ shape, keys }: TrainingViews, training: boolean): DropoutAt {
  return (site) =>
    training && shape.dropout > 0 ? { key: keyOf(keys, site), rowsPerSequence: shape.context } : undefined;
}

function attentionShape(g: Graph, { batch, context, stack }: TrainingViews['shape']) {
  const { width, heads } = g.config;
  return { batch: stack * batch, context, heads, headSize: width / heads };
}
