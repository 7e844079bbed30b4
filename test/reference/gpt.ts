import type { ModelConfig } from '../../src/model/config.js';
import { parameters } from '../../src/model/parameters.js';
import { deriveKey, Stream } from '../../src/util/random.js';
import {
  add,
  causalAttention,
  causalAttentionBackward,
  crossEntropy,
  crossEntropyBackward,
  dropoutFactors,
  embedding,
  embeddingBackward,
  gelu,
  geluBackward,
  head,
  headBackward,
  layerNorm,
  layerNormBackward,
  linear,
  linearBackward,
  multiply,
  type Values,
} from './operations.js';

/** One tensor for each name of `parameters(config)`, flat, in the shape given there. */
export type Weights = ReadonlyMap<string, Values>;

export interface Dropout {
  /** The chance that a value is dropped. */
  readonly p: number;
  readonly seed: number;
  readonly step: number;
  /** The slot in the global batch of the first sequence. */
  readonly firstSlot: number;
}

export interface ForwardOptions {
  /** Absent: nothing is dropped. */
  readonly dropout?: Dropout;
  /** T: tokens of a sequence, if fewer than `config.context`. */
  readonly context?: number;
}

/** The results of the forward pass, with all that `backward` needs. */
export interface Pass {
  /** [B, T, V] */
  readonly logits: Float64Array;
  /** [B, T]: the loss of each token, 0 where the target is ignored. */
  readonly losses: Float64Array;
  readonly lossSum: number;
  /**
   * By the names of the buffers in src/model/buffers.ts: `x.<layer>` (also `x.<layers>`), `middle.<layer>` [B, T, C]: the
   * residual stream before the attention and before the feed-forward; `norm1.<layer>`, `norm2.<layer>`,
   * `attention.<layer>`, `final` [B, T, C]; `qkv.<layer>` [B, T, 3 C]; `hidden.<layer>`, `gelu.<layer>` [B, T, 4 C].
   */
  readonly activations: ReadonlyMap<string, Float64Array>;
  readonly config: ModelConfig;
  readonly weights: Weights;
  readonly tokens: Values;
  readonly targets: Values;
  readonly options: ForwardOptions;
}

function named<T>(map: ReadonlyMap<string, T>, name: string): T {
  const value = map.get(name);
  if (value === undefined) throw new RangeError(`there is no ${name}`);
  return value;
}

/** The factors of dropout site `site`, [B, places], or undefined without dropout. */
function siteFactors(dropout: Dropout | undefined, site: number, batch: number, places: number) {
  if (dropout === undefined) return undefined;
  const key = deriveKey(dropout.seed, Stream.dropout, dropout.step, site);
  return dropoutFactors(key, dropout.p, dropout.firstSlot, batch, places);
}

/** The shapes of a pass, and the factors of its dropout sites. */
function frame(config: ModelConfig, rows: number, options: ForwardOptions) {
  const { width: C, heads: H } = config;
  const T = options.context ?? config.context;
  const B = rows / T;
  if (!Number.isInteger(B) || T > config.context) throw new RangeError(`${rows} tokens in sequences of ${T}`);
  const dropped = (site: number) => siteFactors(options.dropout, site, B, T * C);
  return {
    C,
    T,
    heads: { batch: B, context: T, heads: H, headSize: C / H },
    embeddingFactors: () => dropped(0),
    probabilityFactors: (layer: number) => siteFactors(options.dropout, 1 + 3 * layer, B, H * T * T),
    attentionFactors: (layer: number) => dropped(2 + 3 * layer),
    feedForwardFactors: (layer: number) => dropped(3 + 3 * layer),
  };
}

/** tokens, targets [B, T] -> logits, losses and activations in float64. B follows from the number of tokens. */
export function forward(
  config: ModelConfig,
  weights: Weights,
  tokens: Values,
  targets: Values,
  options: ForwardOptions = {},
): Pass {
  const { C, T, heads, ...factors } = frame(config, tokens.length, options);
  const w = (name: string) => named(weights, name);
  const activations = new Map<string, Float64Array>();
  const keep = (name: string, value: Float64Array) => {
    activations.set(name, value);
    return value;
  };

  let x = multiply(embedding(tokens, w('wte.weight'), w('wpe.weight'), T, C), factors.embeddingFactors());
  keep('x.0', x);
  for (let l = 0; l < config.layers; l++) {
    const p = (name: string) => w(`h.${l}.${name}`);
    const qkvBias = config.qkvBias ? p('attn.c_attn.bias') : undefined;
    const norm1 = keep(`norm1.${l}`, layerNorm(x, p('ln_1.weight'), p('ln_1.bias'), C).y);
    const qkv = keep(`qkv.${l}`, linear(norm1, p('attn.c_attn.weight'), qkvBias, C, 3 * C));
    const attention = keep(`attention.${l}`, causalAttention(heads, qkv, factors.probabilityFactors(l)).y);
    const projected = linear(attention, p('attn.c_proj.weight'), p('attn.c_proj.bias'), C, C);
    const middle = keep(`middle.${l}`, add(x, multiply(projected, factors.attentionFactors(l))));

    const norm2 = keep(`norm2.${l}`, layerNorm(middle, p('ln_2.weight'), p('ln_2.bias'), C).y);
    const hidden = keep(`hidden.${l}`, linear(norm2, p('mlp.c_fc.weight'), p('mlp.c_fc.bias'), C, 4 * C));
    const activated = keep(`gelu.${l}`, gelu(hidden));
    const output = linear(activated, p('mlp.c_proj.weight'), p('mlp.c_proj.bias'), 4 * C, C);
    x = keep(`x.${l + 1}`, add(middle, multiply(output, factors.feedForwardFactors(l))));
  }
  const final = keep('final', layerNorm(x, w('ln_f.weight'), w('ln_f.bias'), C).y);
  const logits = head(final, w(config.tie ? 'wte.weight' : 'lm_head.weight'), C, config.vocabSize);
  const losses = crossEntropy(logits, targets, config.vocabSize);
  const lossSum = losses.reduce((sum, loss) => sum + loss, 0);
  return { logits, losses, lossSum, activations, config, weights, tokens, targets, options };
}

/**
 * The gradient of tokenWeight * (sum of the token losses) by every parameter, in the order of `parameters(config)`; the
 * mean loss has tokenWeight = 1 / (targets that are not ignored).
 */
export function backward(pass: Pass, tokenWeight: number): Map<string, Float64Array> {
  const { config, weights, tokens, targets, logits, options } = pass;
  const { C, T, heads, ...factors } = frame(config, tokens.length, options);
  const { vocabSize: V, context: positions } = config;
  const w = (name: string) => named(weights, name);
  const a = (name: string) => named(pass.activations, name);
  const gradients = new Map<string, Float64Array>(
    parameters(config).map(({ name, size }) => [name, new Float64Array(size)]),
  );
  /** Adds to the gradient of `name`. A tied embedding gets two gradients. */
  const collect = (name: string, gradient: Float64Array) => gradients.set(name, add(named(gradients, name), gradient));

  const headName = config.tie ? 'wte.weight' : 'lm_head.weight';
  const dLogits = crossEntropyBackward(logits, targets, V, tokenWeight);
  const top = headBackward(a('final'), w(headName), dLogits, C, V);
  collect(headName, top.dw);

  /** Backward through a LayerNorm of `x`; adds its gradients. */
  const normBackward = (name: string, x: Values, dy: Values) => {
    const back = layerNormBackward(x, w(`${name}.weight`), dy, C);
    collect(`${name}.weight`, back.dGain);
    collect(`${name}.bias`, back.dBias);
    return back.dx;
  };
  /** Backward through a linear layer of `x`, [M, K] to [M, N]; adds its gradients. */
  const layerBackward = (name: string, x: Values, dy: Values, K: number, N: number) => {
    const back = linearBackward(x, w(`${name}.weight`), dy, K, N);
    collect(`${name}.weight`, back.dw);
    if (gradients.has(`${name}.bias`)) collect(`${name}.bias`, back.dBias);
    return back.dx;
  };

  let dx = normBackward('ln_f', a(`x.${config.layers}`), top.dx);
  for (let l = config.layers - 1; l >= 0; l--) {
    const h = `h.${l}`;
    const dOutput = multiply(dx, factors.feedForwardFactors(l));
    const dActivated = layerBackward(`${h}.mlp.c_proj`, a(`gelu.${l}`), dOutput, 4 * C, C);
    const dHidden = geluBackward(a(`hidden.${l}`), dActivated);
    const dNorm2 = layerBackward(`${h}.mlp.c_fc`, a(`norm2.${l}`), dHidden, C, 4 * C);
    dx = add(dx, normBackward(`${h}.ln_2`, a(`middle.${l}`), dNorm2));

    const dProjected = multiply(dx, factors.attentionFactors(l));
    const dAttention = layerBackward(`${h}.attn.c_proj`, a(`attention.${l}`), dProjected, C, C);
    const dQkv = causalAttentionBackward(heads, a(`qkv.${l}`), dAttention, factors.probabilityFactors(l));
    const dNorm1 = layerBackward(`${h}.attn.c_attn`, a(`norm1.${l}`), dQkv, C, 3 * C);
    dx = add(dx, normBackward(`${h}.ln_1`, a(`x.${l}`), dNorm1));
  }
  const dEmbedded = multiply(dx, factors.embeddingFactors());
  const { dWte, dWpe } = embeddingBackward(tokens, dEmbedded, { T, C, V, positions });
  collect('wte.weight', dWte);
  collect('wpe.weight', dWpe);
  return gradients;
}
