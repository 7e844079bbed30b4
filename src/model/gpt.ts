import { type Gpu, slice, type View } from '../gpu/device.js';
import type { KernelCache } from '../gpu/kernel.js';
import { DispatchList } from '../gpu/list.js';
import { deriveKey, Stream } from '../util/random.js';
import { activationSizes, allocateSizes, isHalf, layerBuffer, Site } from './activations.js';
import type { ModelConfig } from './config.js';
import { HalfWeights } from './half.js';
import type { ParameterArena } from './layout.js';
import { Operations } from './operations.js';
import type { Plan } from './plan.js';
import { type BatchShape, headPasses, logitsStride } from './shape.js';
import type { ExactSums } from './sums.js';

/** A target that has no loss: padding of incomplete micro-batches in evaluation. */
export const IGNORED_TARGET = 0xffffffff;

/** Consecutive sequences of a global batch; all arrays are [B x T]. */
export interface MicroBatch {
  readonly tokens: Uint32Array;
  readonly targets: Uint32Array;
  /** The slot of the first sequence in the global batch. */
  readonly firstSlot: number;
}

/** What the dropout masks of a training step depend on, and the factor of each token's loss. */
export interface StepContext {
  readonly seed: number;
  readonly step: number;
  /** 1 / (tokens of the global batch). */
  readonly lossScale: number;
  /** Gradients carry 2 to this power on their way to the grid; 0 in float32. */
  readonly scaleExponent?: number;
}

const KEY_WORDS = 64;

/** Forward and backward of some micro-batches at once; `fresh`: what the sums held is gone. */
export interface GradientKind {
  readonly stack: number;
  readonly fresh: boolean;
}

/** The lists for one number of micro-batches at once. */
interface Lists {
  /** Runs forward and backward and adds every parameter's gradient, rounded to the grid, to the sums. */
  readonly gradient: DispatchList;
  /** The same, but that the gradients are the sums then, but for an untied token embedding's, which are added always. */
  readonly fresh: DispatchList;
  /** Runs forward without dropout and adds the loss alone. */
  readonly loss: DispatchList;
}

/**
 * The model as static lists of dispatches over one set of buffers, for single micro-batches and for whole stacks of them
 * (`BatchShape.stack`).
 */
export class Gpt {
  readonly #lists = new Map<number, Lists>();

  private constructor(
    readonly gpu: Gpu,
    readonly config: ModelConfig,
    readonly shape: BatchShape,
    readonly plan: Plan,
    readonly weights: ParameterArena,
    readonly sums: ExactSums,
    readonly buffers: ReadonlyMap<string, View>,
    private readonly keys: View,
    private readonly scale: View,
    private readonly mixed: { readonly copies: HalfWeights; readonly unit: View } | undefined,
  ) {}

  /** Allocates the buffers and compiles every pipeline. */
  static async build(
    kernels: KernelCache,
    shape: BatchShape,
    plan: Plan,
    weights: ParameterArena,
    sums: ExactSums,
  ): Promise<Gpt> {
    const { gpu } = kernels;
    const { config } = weights.layout;
    const sizes = activationSizes(config, shape, plan, true);
    const buffers = await allocateSizes(gpu, sizes, plan, (name) => isHalf(shape, name));
    const keys = await gpu.uniform('dropout keys', 256 * Site.count(config.layers));
    const scale = await gpu.uniform('loss scale', 16);
    const mixed =
      shape.precision === 'f16'
        ? { copies: await HalfWeights.build(kernels, weights), unit: await gpu.uniform('gradient unit', 16) }
        : undefined;
    const gpt = new Gpt(gpu, config, shape, plan, weights, sums, buffers, keys, scale, mixed);
    for (const stack of new Set([1, gpt.stack])) gpt.#lists.set(stack, await gpt.#build(kernels, stack));
    return gpt;
  }

  async #build(kernels: KernelCache, stack: number): Promise<Lists> {
    const { plan, weights, sums, mixed } = this;
    const scratch = this.buffers.get('scratch');
    const lists = { gradient: new DispatchList(), fresh: new DispatchList(), loss: new DispatchList() };
    const operations = (list: DispatchList, fresh = false) =>
      new Operations(list, plan, weights, sums, mixed, scratch, fresh);
    for (const op of [operations(lists.gradient), operations(lists.fresh, true)]) {
      this.#addForward(op, stack, true);
      this.#addHead(op, stack, true);
      this.#addBackward(op, stack);
    }
    const loss = operations(lists.loss);
    this.#addForward(loss, stack, false);
    this.#addHead(loss, stack, false);
    for (const list of Object.values(lists)) await list.prepare(kernels);
    return lists;
  }

  /** The rows of one micro-batch. */
  get rows(): number {
    return this.shape.batch * this.shape.context;
  }

  /** Micro-batches that can be computed at once. */
  get stack(): number {
    return this.shape.stack ?? 1;
  }

  /**
   * What to compute next of `batches`, from number `from` on: a whole stack where there are so many, their slots follow
   * one another and all are `alike`; else a single one.
   */
  stackFrom(
    batches: readonly MicroBatch[],
    from: number,
    alike: (index: number) => boolean = () => true,
  ): MicroBatch[] {
    const next = batches.slice(from, from + this.stack);
    const { batch: size } = this.shape;
    const fits = next.every((b, i) => b.firstSlot === next[0].firstSlot + i * size && alike(from + i));
    return next.length === this.stack && fits ? next : next.slice(0, 1);
  }

  /** The list that computes gradients so, by default of a single micro-batch on top of others. */
  gradientList({ stack, fresh }: GradientKind = { stack: 1, fresh: false }): DispatchList {
    const { gradient, fresh: first } = this.#listsFor(stack);
    return fresh ? first : gradient;
  }

  #listsFor(stack: number): Lists {
    const lists = this.#lists.get(stack);
    if (lists === undefined)
      throw new RangeError(`a stack of ${stack} micro-batches, by a graph for 1 or ${this.stack}`);
    return lists;
  }

  view(name: string): View {
    const view = this.buffers.get(name);
    if (view === undefined) throw new RangeError(`the graph has no buffer ${name}`);
    return view;
  }

  /** Queues what follows from changed weights; to be called after every change, before what is to see it. */
  submitWeights(): void {
    this.mixed?.copies.submit(this.gpu);
  }

  /**
   * Queues forward and backward of one micro-batch, or of a whole stack whose slots follow one another. Their gradients
   * are added to the sums, or with `fresh` take their place (an untied token embedding's must be zero before).
   */
  submitGradient(batches: MicroBatch | readonly MicroBatch[], context: StepContext, fresh = false): void {
    const all = asList(batches);
    this.loadGradient(all, context);
    this.gradientList({ stack: all.length, fresh }).submit(this.gpu);
  }

  /** Queues what a gradient list needs to know of its micro-batches; the list itself can then be submitted in parts. */
  loadGradient(batches: MicroBatch | readonly MicroBatch[], context: StepContext): void {
    const all = asList(batches);
    const { tokens } = this.#load(all);
    const [{ firstSlot }] = all;
    if (all.some((batch, i) => batch.firstSlot !== firstSlot + i * this.shape.batch))
      throw new RangeError('the slots of stacked micro-batches must follow one another');
    this.gpu.write(this.view('lists'), tokenLists(tokens));
    const { lossScale, scaleExponent = 0 } = context;
    this.gpu.write(this.scale, Float32Array.of(lossScale * 2 ** scaleExponent));
    if (this.mixed) this.gpu.write(this.mixed.unit, Float32Array.of(2 ** -scaleExponent));
    if (this.shape.dropout > 0) this.gpu.write(this.keys, dropoutKeys(this.config, this.shape, firstSlot, context));
  }

  /** Queues the forward pass of one micro-batch or a whole stack, without dropout; the losses are added to the sum. */
  submitLoss(batches: MicroBatch | readonly MicroBatch[]): void {
    const all = asList(batches);
    this.#load(all);
    this.#listsFor(all.length).loss.submit(this.gpu);
  }

  #load(batches: readonly MicroBatch[]): { readonly tokens: Uint32Array } {
    this.#listsFor(batches.length);
    for (const { tokens, targets } of batches)
      if (tokens.length !== this.rows || targets.length !== this.rows)
        throw new RangeError(`a micro-batch of ${tokens.length} tokens for a graph of ${this.rows}`);
    const tokens = joined(batches.map((batch) => batch.tokens));
    this.gpu.write(this.view('tokens'), tokens);
    this.gpu.write(this.view('targets'), joined(batches.map((batch) => batch.targets)));
    return { tokens };
  }

  #key(training: boolean, site: number): View | undefined {
    return training && this.shape.dropout > 0 ? this.#siteKey(site) : undefined;
  }

  #siteKey(site: number): View {
    return { buffer: this.keys.buffer, offset: site * KEY_WORDS * 4, size: 32 };
  }

  #addForward(op: Operations, stack: number, training: boolean): void {
    const { layers } = this.config;
    const { rows, shape } = this;
    const v = (name: string) => this.view(name);
    const dropout = this.#key(training, Site.embedding) !== undefined;
    const embeddingKey = { key: this.#siteKey(Site.embedding), dropout };
    op.embedding({ tokens: v('tokens'), x: v('x.0'), rows, stack, context: shape.context, ...embeddingKey });
    for (let l = 0; l < layers; l++) {
      this.#addLayerInside(op, l, stack, training);
      this.#addLayerOutput(op, l, stack, training);
    }
    op.layerNorm('ln_f', { x: v(`x.${layers}`), y: v('final'), stats: v('finalStats'), rows, stack });
  }

  /** The view of `name` of layer `l`. */
  #ofLayer(name: string, l: number): View {
    return this.view(layerBuffer(this.shape, name, l));
  }

  #dropout(training: boolean, site: number): { key: View; rowsPerSequence: number } | undefined {
    const key = this.#key(training, site);
    return key && { key, rowsPerSequence: this.shape.context };
  }

  /** Layer `l` from its input `x.l` on, all that its backward reads. */
  #addLayerInside(op: Operations, l: number, stack: number, training: boolean): void {
    const extent = { rows: this.rows, stack };
    const { batch, context } = this.shape;
    const { width, heads } = this.config;
    const v = (name: string) => this.#ofLayer(name, l);
    const shape = { batch: stack * batch, context, heads, headSize: width / heads };
    const [h, x, middle] = [`h.${l}`, this.view(`x.${l}`), v('middle')];
    const [norm1, qkv, attended, norm2] = [v('norm1'), v('qkv'), v('attention'), v('norm2')];
    const key = this.#key(training, Site.attention(l));
    const dropout = this.#dropout(training, Site.attentionProjection(l));
    op.layerNorm(`${h}.ln_1`, { x, y: norm1, stats: v('stats1'), ...extent });
    op.linear(`${h}.attn.c_attn`, { x: norm1, y: qkv, ...extent });
    op.attention(shape, { qkv, out: attended, logsumexp: v('logsumexp'), dropout: key });
    op.linear(`${h}.attn.c_proj`, { x: attended, y: middle, ...extent, dropout, residual: x });
    op.layerNorm(`${h}.ln_2`, { x: middle, y: norm2, stats: v('stats2'), ...extent });
    op.linear(`${h}.mlp.c_fc`, { x: norm2, y: v('hidden'), ...extent, gelu: v('gelu') });
  }

  #addLayerOutput(op: Operations, l: number, stack: number, training: boolean): void {
    op.linear(`h.${l}.mlp.c_proj`, {
      x: this.#ofLayer('gelu', l),
      y: this.view(`x.${l + 1}`),
      rows: this.rows,
      stack,
      dropout: this.#dropout(training, Site.feedForward(l)),
      residual: this.#ofLayer('middle', l),
    });
  }

  /** The head and its loss in passes over some rows; with `training`, also the head's gradients, as far as dNorm. */
  #addHead(op: Operations, stack: number, training: boolean): void {
    const { width: C } = this.config;
    const stride = logitsStride(this.config);
    const logits = this.view('logits');
    for (const [i, pass] of headPasses(this.config, { ...this.shape, stack }, this.plan).entries()) {
      const { start } = pass;
      const extent = { rows: pass.rows, stack: pass.stack };
      const rows = pass.rows * pass.stack;
      const x = slice(this.view('final'), start * C, rows * C);
      const targets = slice(this.view('targets'), start, rows);
      const losses = slice(this.view('losses'), start, rows);
      op.head({ x, logits, ...extent, stride });
      op.crossEntropy({ logits, targets, losses, ...extent, stride, scale: training ? this.scale : undefined });
      const dx = training ? slice(this.view('dNorm'), start * C, rows * C) : undefined;
      if (dx) op.headGradient({ x, dLogits: logits, dx, ...extent, stride, isFirst: i === 0 });
    }
    op.sumLosses({
      losses: slice(this.view('losses'), 0, stack * this.rows),
      total: this.sums.loss,
      status: this.sums.lossStatus,
    });
  }

  #addBackward(op: Operations, stack: number): void {
    const { width, heads, layers } = this.config;
    const { batch, context } = this.shape;
    const extent = { rows: this.rows, stack };
    const v = (name: string) => this.view(name);
    const [dx, dNorm, dHidden, dAttention, dQkv] = [v('dx'), v('dNorm'), v('dHidden'), v('dAttention'), v('dQkv')];
    /** For the LayerNorm whose dx goes through the dropout of `site` next. */
    const before = (site: number) => {
      const dropout = this.#dropout(true, site);
      return dropout && { ...dropout, gradient: v('dDropped') };
    };
    const dropped = this.shape.dropout > 0 ? v('dDropped') : dx;
    const shape = { batch: stack * batch, context, heads, headSize: width / heads };

    const last = { x: v(`x.${layers}`), stats: v('finalStats'), dy: dNorm, dx, ...extent };
    op.layerNormGradient('ln_f', { ...last, passing: false, dropout: before(Site.feedForward(layers - 1)) });
    for (let l = layers - 1; l >= 0; l--) {
      // The last layer's is still there from the forward pass.
      if (this.shape.recompute && l < layers - 1) this.#addLayerInside(op, l, stack, true);
      const layer = (name: string) => this.#ofLayer(name, l);
      const [h, attended, qkv] = [`h.${l}`, layer('attention'), layer('qkv')];
      const norm = { dy: dNorm, dx, passing: true, ...extent };
      op.linearGradient(`${h}.mlp.c_proj`, {
        x: layer('gelu'),
        dy: dropped,
        dx: dHidden,
        hidden: layer('hidden'),
        ...extent,
      });
      op.linearGradient(`${h}.mlp.c_fc`, { x: layer('norm2'), dy: dHidden, dx: dNorm, ...extent });
      const toProjection = before(Site.attentionProjection(l));
      op.layerNormGradient(`${h}.ln_2`, { x: layer('middle'), stats: layer('stats2'), ...norm, dropout: toProjection });
      op.linearGradient(`${h}.attn.c_proj`, { x: attended, dy: dropped, dx: dAttention, ...extent });
      op.attentionGradient(shape, {
        qkv,
        out: attended,
        logsumexp: layer('logsumexp'),
        outGradient: dAttention,
        delta: v('delta'),
        qkvGradient: dQkv,
        dropout: this.#key(true, Site.attention(l)),
      });
      op.linearGradient(`${h}.attn.c_attn`, { x: layer('norm1'), dy: dQkv, dx: dNorm, ...extent });
      const below = before(l > 0 ? Site.feedForward(l - 1) : Site.embedding);
      op.layerNormGradient(`${h}.ln_1`, { x: v(`x.${l}`), stats: layer('stats1'), ...norm, dropout: below });
    }
    op.embeddingGradient({ dx: dropped, lists: v('lists'), ...extent, context });
  }
}

function asList(batches: MicroBatch | readonly MicroBatch[]): readonly MicroBatch[] {
  return 'tokens' in batches ? [batches] : batches;
}

function joined([first, ...rest]: readonly Uint32Array[]): Uint32Array {
  if (rest.length === 0) return first;
  const all = new Uint32Array(first.length * (1 + rest.length));
  [first, ...rest].forEach((part, i) => void all.set(part, i * first.length));
  return all;
}

/** The layout that `shaders/embedding.wgsl` describes: the rows of a stack of micro-batches sorted by (token, row). */
export function tokenLists(tokens: Uint32Array): Uint32Array {
  const M = tokens.length;
  const lists = new Uint32Array(1 + 3 * M);
  // Tokens stay below 2^20 and rows below 2^32, so one float64 key sorts by both.
  const order = Float64Array.from(tokens, (token, row) => token * 2 ** 32 + row).sort();
  let unique = 0;
  let previous = -1;
  order.forEach((key, i) => {
    const token = Math.floor(key / 2 ** 32);
    if (token !== previous) {
      lists[1 + unique] = token;
      lists[1 + M + unique] = i;
      unique++;
      previous = token;
    }
    lists[1 + 2 * M + i] = key % 2 ** 32;
  });
  lists[0] = unique;
  return lists;
}

/** The uniform blocks of all sites, 256 bytes apart. */
function dropoutKeys(config: ModelConfig, shape: BatchShape, firstSlot: number, context: StepContext): Uint32Array {
  const sites = Site.count(config.layers);
  const words = new Uint32Array(sites * KEY_WORDS);
  const floats = new Float32Array(words.buffer);
  for (let site = 0; site < sites; site++) {
    const [k0, k1] = deriveKey(context.seed, Stream.dropout, context.step, site);
    words.set([k0, k1, firstSlot, Math.round(shape.dropout * 2 ** 32)], site * KEY_WORDS);
    floats[site * KEY_WORDS + 4] = 1 / (1 - shape.dropout);
  }
  return words;
}
