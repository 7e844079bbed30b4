import { createHash } from 'node:crypto';
import type { ModelConfig } from '../../../src/model/config.js';
import { Site } from '../../../src/model/dropout.js';
import type { MicroBatch } from '../../../src/model/gpt.js';
import { ParameterLayout } from '../../../src/model/layout.js';
import { type Parameter, parameters } from '../../../src/model/parameters.js';
import type { Wire } from '../../../src/model/wire.js';
import { attention, attentionGradient } from '../../../src/reference/attention.js';
import { toFixedPoint } from '../../../src/reference/fixed-point.js';
import { adamW, squares } from '../../../src/reference/optimizer.js';
import { type Epilogue, product, stored, storedGelu } from '../../../src/reference/products.js';
import {
  columnSums,
  crossEntropy,
  embedding,
  embeddingBackward,
  layerNorm,
  layerNormBackward,
  type Statistics,
} from '../../../src/reference/rows.js';
import { type AdamWSettings, clipScaleOf } from '../../../src/train/optimizer.js';
import { power } from '../../../src/util/portable-math.js';
import { deriveKey, Stream } from '../../../src/util/random.js';
import { dropoutFactors } from '../operations.js';
import { EXACT, moveWeights, ReferenceGrid, type Rounding } from './wires.js';

/*
 * Whole training steps in portable arithmetic, in plain TypeScript: the specification that every adapter is held against. It
 * follows src/model/spine.ts line by line. Slow, for models of a few thousand parameters: no windows of large tensors, and a
 * micro-batch's logits in one chunk.
 */

export interface ReferenceOptions {
  readonly adamw: AdamWSettings;
  /** Largest norm of the gradient; 0 does not clip. */
  readonly clip: number;
  /** Probability that a value is dropped. */
  readonly dropout: number;
  readonly seed: number;
  /** Default `exact`. */
  readonly wire?: Wire;
}

/** The parts of a state in the order of its digest. */
const PARTS = { exact: ['weights', 'm', 'v'], low: ['weights', 'master', 'm', 'v'] } as const;
export type ReferencePart = (typeof PARTS)[Wire][number];

type Tensors = ReadonlyMap<string, Float32Array>;

interface LayerRecord {
  readonly norm1: Float32Array;
  readonly stats1: Statistics;
  readonly qkv: Float32Array;
  readonly attended: Float32Array;
  readonly logsumexp: Float32Array;
  readonly middle: Float32Array;
  readonly norm2: Float32Array;
  readonly stats2: Statistics;
  readonly hidden: Float32Array;
  readonly gelu: Float32Array;
}

export class ReferenceTraining {
  readonly list: readonly Parameter[];
  readonly state: Readonly<Record<ReferencePart, Tensors>>;
  /** In the low wire. */
  readonly grid: ReferenceGrid | undefined;
  readonly #layout: ParameterLayout;
  #rounding: Rounding = EXACT;
  /** Of the micro-batch that is computed: its first sequence's slot. */
  #slot = 0;
  #sums = new Map<string, BigInt64Array>();

  /** `weights`: the tensors to start from, by name. */
  constructor(
    readonly config: ModelConfig,
    weights: Tensors,
    readonly options: ReferenceOptions,
  ) {
    this.list = parameters(config);
    this.#layout = new ParameterLayout(config);
    const zeros = () => new Map(this.list.map(({ name, size }) => [name, new Float32Array(size)]));
    const copied = () => new Map([...weights].map(([name, values]) => [name, values.slice()]));
    this.state = { weights: copied(), master: copied(), m: zeros(), v: zeros() };
    if (options.wire === 'low') this.grid = new ReferenceGrid(this.#layout, options.seed);
  }

  /** Takes update number `step` (1 is the first). Returns the mean loss of the global batch. */
  step(batches: readonly MicroBatch[], step: number, learningRate: number): number {
    this.#rounding = this.grid?.rounding(step) ?? EXACT;
    this.#sums = new Map(this.list.map(({ name, size }) => [name, new BigInt64Array(size)]));
    const tokens = batches.reduce((n, b) => n + b.tokens.length, 0);
    let loss = 0n;
    for (const batch of batches)
      for (const value of this.#microBatch(batch, step, Math.fround(1 / tokens))) loss += toFixedPoint(value);
    this.#update(step, learningRate);
    if (this.grid) {
      const { beta2 } = this.options.adamw;
      this.grid.follow(this.state.v, Math.fround(1 / (64 * (1 - power(beta2, step)) * batches.length)));
    }
    return (Number(loss) * 2 ** -40) / tokens;
  }

  #update(step: number, learningRate: number): void {
    const { adamw, clip } = this.options;
    const gradients = new Map(
      [...this.#sums].map(([name, sums]) => [
        name,
        Float32Array.from(sums, (sum, i) => this.#rounding.fromSum(name, i, sum)),
      ]),
    );
    const norm = Math.sqrt(this.#squares(gradients));
    for (const parameter of this.list) {
      const { name, kind } = parameter;
      const part = (of: ReferencePart) => this.state[of].get(name) as Float32Array;
      const decays = adamw.decay === 'all' || kind === 'matrix' || kind === 'embedding';
      const weights = part(this.grid ? 'master' : 'weights');
      adamW({ weights, m: part('m'), v: part('v') }, gradients.get(name) as Float32Array, {
        ...adamw,
        step,
        learningRate,
        clipScale: clipScaleOf(clip, norm),
        decays,
      });
      if (this.grid) moveWeights(part('weights'), weights, learningRate);
    }
  }

  /** The digest of the state after `step` updates (docs/determinism.md). */
  digest(step: number): string {
    const hash = createHash('sha256');
    for (const part of PARTS[this.options.wire ?? 'exact'])
      for (const { name } of this.list)
        hash.update(new Uint8Array((this.state[part].get(name) as Float32Array).buffer));
    return hash.update(new Uint8Array(BigUint64Array.of(BigInt(step)).buffer)).digest('hex');
  }

  /** The sum of all squares, in float64 over chunks of the flat array (src/model/layout.ts), gaps included. */
  #squares(gradients: Tensors): number {
    const layout = this.#layout;
    let sum = 0;
    for (const [slab, size] of layout.slabSizes.entries()) {
      const flat = new Float32Array(size);
      for (const piece of layout.pieces)
        if (piece.slab === slab) flat.set(gradients.get(piece.parameter.name) as Float32Array, piece.offset);
      for (const chunk of squares(flat)) sum += chunk;
    }
    return sum;
  }

  #shape(name: string): readonly number[] {
    return this.list[this.list.findIndex((p) => p.name === name)].shape;
  }

  #weight(name: string): Float32Array {
    return this.state.weights.get(name) as Float32Array;
  }

  #add(name: string, gradient: Float32Array): void {
    const sums = this.#sums.get(name) as BigInt64Array;
    for (const [i, value] of gradient.entries()) sums[i] += this.#rounding.toInteger(name, i, value, this.#slot);
  }

  /** The factors of a dropout site for a micro-batch, `places` values a sequence. */
  #factors(batch: MicroBatch, step: number, site: number, places: number): Float32Array | undefined {
    const { dropout, seed } = this.options;
    if (dropout === 0) return undefined;
    const key = deriveKey(seed, Stream.dropout, step, site);
    const sequences = batch.tokens.length / this.config.context;
    return Float32Array.from(dropoutFactors(key, dropout, batch.firstSlot, sequences, places));
  }

  #linear(name: string, x: Float32Array, epilogue: Omit<Epilogue, 'bias'> = {}): Float32Array {
    const { acc, n, bias } = this.#product(name, x);
    return stored(acc, n, { ...epilogue, bias });
  }

  #product(name: string, x: Float32Array) {
    const [k, n] = this.#shape(`${name}.weight`);
    const acc = product({ layout: 'NN', m: x.length / k, n, k, a: x, b: this.#weight(`${name}.weight`) });
    return { acc, n, bias: this.state.weights.get(`${name}.bias`) };
  }

  /** Adds the gradients of the layer; returns that of its input. */
  #linearGradient(name: string, x: Float32Array, dy: Float32Array, epilogue: Epilogue = {}): Float32Array {
    const [k, n] = this.#shape(`${name}.weight`);
    const m = x.length / k;
    this.#add(`${name}.weight`, product({ layout: 'TN', m: k, n, k: m, a: x, b: dy }));
    if (this.state.weights.has(`${name}.bias`)) this.#add(`${name}.bias`, columnSums(dy, n));
    return stored(product({ layout: 'NT', m, n: k, k: n, a: dy, b: this.#weight(`${name}.weight`) }), k, epilogue);
  }

  #normGradient(
    name: string,
    v: { x: Float32Array; statistics: Statistics; dy: Float32Array; residual?: Float32Array; factors?: Float32Array },
  ) {
    const gain = this.#weight(`${name}.weight`);
    const back = layerNormBackward({ ...v, gain, C: this.config.width });
    this.#add(`${name}.weight`, back.dGain);
    this.#add(`${name}.bias`, back.dBias);
    return back;
  }

  /** Adds the gradients of a micro-batch; returns the losses of its tokens. `scale`: the factor of each loss. */
  #microBatch(batch: MicroBatch, step: number, scale: number): Float32Array {
    const { width: C, context: T, heads, layers, vocabSize: V, tie } = this.config;
    const { tokens, targets } = batch;
    this.#slot = batch.firstSlot;
    const shape = { batch: tokens.length / T, context: T, heads, headSize: C / heads };
    const factors = (site: number, places = T * C) => this.#factors(batch, step, site, places);
    const norm = (name: string, x: Float32Array) => {
      const { y, ...statistics } = layerNorm(x, this.#weight(`${name}.weight`), this.#weight(`${name}.bias`), C);
      return { y, statistics };
    };

    const x = [
      embedding(tokens, this.#weight('wte.weight'), this.#weight('wpe.weight'), { T, C }, factors(Site.embedding)),
    ];
    const records: LayerRecord[] = [];
    for (let l = 0; l < layers; l++) {
      const h = `h.${l}`;
      const first = norm(`${h}.ln_1`, x[l]);
      const qkv = this.#linear(`${h}.attn.c_attn`, first.y, { rounds: true });
      const { out, logsumexp } = attention(shape, qkv, factors(Site.attention(l), heads * T * T));
      const middle = this.#linear(`${h}.attn.c_proj`, out, {
        factors: factors(Site.attentionProjection(l)),
        residual: x[l],
      });
      const second = norm(`${h}.ln_2`, middle);
      const { acc, n, bias } = this.#product(`${h}.mlp.c_fc`, second.y);
      const { hidden, gelu } = storedGelu(acc, n, bias);
      x.push(this.#linear(`${h}.mlp.c_proj`, gelu, { factors: factors(Site.feedForward(l)), residual: middle }));
      records.push({
        norm1: first.y,
        stats1: first.statistics,
        qkv,
        attended: out,
        logsumexp,
        middle,
        norm2: second.y,
        stats2: second.statistics,
        hidden,
        gelu,
      });
    }
    const last = norm('ln_f', x[layers]);

    const head = tie ? 'wte.weight' : 'lm_head.weight';
    const rows = tokens.length;
    const logits = stored(product({ layout: 'NT', m: rows, n: V, k: C, a: last.y, b: this.#weight(head) }), V, {});
    const { losses, gradient } = crossEntropy(logits, V, V, targets, scale);
    const dFinal = stored(product({ layout: 'NN', m: rows, n: C, k: V, a: gradient, b: this.#weight(head) }), C, {});
    this.#add(head, product({ layout: 'TN', m: V, n: C, k: rows, a: gradient, b: last.y }));

    let { dx, dropped } = this.#normGradient('ln_f', {
      x: x[layers],
      statistics: last.statistics,
      dy: dFinal,
      factors: factors(Site.feedForward(layers - 1)),
    });
    for (let l = layers - 1; l >= 0; l--) {
      const h = `h.${l}`;
      const r = records[l];
      const dHidden = this.#linearGradient(`${h}.mlp.c_proj`, r.gelu, dropped, {
        geluGradient: r.hidden,
        rounds: true,
      });
      const dNorm2 = this.#linearGradient(`${h}.mlp.c_fc`, r.norm2, dHidden);
      ({ dx, dropped } = this.#normGradient(`${h}.ln_2`, {
        x: r.middle,
        statistics: r.stats2,
        dy: dNorm2,
        residual: dx,
        factors: factors(Site.attentionProjection(l)),
      }));
      const dAttention = this.#linearGradient(`${h}.attn.c_proj`, r.attended, dropped, { rounds: true });
      const views = { qkv: r.qkv, out: r.attended, logsumexp: r.logsumexp, outGradient: dAttention };
      const { qkvGradient } = attentionGradient(shape, views, factors(Site.attention(l), heads * T * T));
      const dNorm1 = this.#linearGradient(`${h}.attn.c_attn`, r.norm1, qkvGradient);
      ({ dx, dropped } = this.#normGradient(`${h}.ln_1`, {
        x: x[l],
        statistics: r.stats1,
        dy: dNorm1,
        residual: dx,
        factors: factors(l > 0 ? Site.feedForward(l - 1) : Site.embedding),
      }));
    }
    const { dWte, dWpe } = embeddingBackward(tokens, dropped, { T, C, V });
    this.#add('wte.weight', dWte);
    this.#add('wpe.weight', dWpe);
    return losses;
  }
}
