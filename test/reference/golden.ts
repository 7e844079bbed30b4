import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ModelConfig } from '../../src/model/config.js';
import type { Values } from './operations.js';
import { readTensors } from './safetensors.js';

/** How far a loss may be from PyTorch's: some units in the last place of float32, because the orders of sums differ. */
export const GOLDEN_LOSS_ERROR = 1e-6;
/** The same in portable arithmetic, whose products have operands of 12 bits. */
export const PORTABLE_LOSS_ERROR = 1e-4;

/** A small model and 20 steps of its training, computed by PyTorch in float32 without dropout. */
export interface Golden {
  /** Holds config.json and model.safetensors as Hugging Face writes them. */
  readonly directory: string;
  readonly config: ModelConfig;
  /** Sequences a step. */
  readonly batch: number;
  readonly learningRate: number;
  /** Every parameter decays. */
  readonly weightDecay: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly tokens: Uint32Array;
  /** The mean loss before each of the 20 updates. */
  readonly losses: readonly number[];
  /** By the names of `parameters(config)`; the weights before the first update. */
  readonly weights: ReadonlyMap<string, Float32Array>;
  /** The weights after the last update. */
  readonly finalWeights: ReadonlyMap<string, Float32Array>;
  /** Of step 0, [B, T, V]. */
  readonly logits: Float32Array;
  /** Of the mean loss of step 0. */
  readonly gradients: ReadonlyMap<string, Float32Array>;
}

export function loadGolden(name: 'tied' | 'untied'): Golden {
  const directory = join(fileURLToPath(new URL('../golden', import.meta.url)), name);
  const json = JSON.parse(readFileSync(join(directory, 'golden.json'), 'utf8'));
  const step0 = readTensors(join(directory, 'step0.safetensors'));
  const logits = step0.get('logits');
  if (logits === undefined) throw new Error(`${directory} has no logits`);
  step0.delete('logits');
  return {
    directory,
    config: {
      vocabSize: json.config.vocab_size,
      context: json.config.context_length,
      width: json.config.emb_dim,
      layers: json.config.n_layers,
      heads: json.config.n_heads,
      tie: json.config.tie,
      qkvBias: json.config.qkv_bias,
    },
    batch: json.batch,
    learningRate: json.lr,
    weightDecay: json.weight_decay,
    beta1: json.betas[0],
    beta2: json.betas[1],
    epsilon: json.eps,
    tokens: Uint32Array.from(json.tokens),
    losses: json.losses,
    weights: ownNames(readTensors(join(directory, 'model.safetensors'))),
    finalWeights: ownNames(readTensors(join(directory, 'final.safetensors'))),
    logits,
    gradients: ownNames(step0),
  };
}

/** `transformer.h.0.ln_1.weight` and `grad.transformer.h.0.ln_1.weight` become `h.0.ln_1.weight`. */
function ownNames(tensors: ReadonlyMap<string, Float32Array>): Map<string, Float32Array> {
  return new Map([...tensors].map(([name, values]) => [name.replace(/^(grad\.)?(transformer\.)?/, ''), values]));
}

/**
 * Tokens and targets [B, T] of update `step` (0 is the first). Windows of T + 1 tokens have stride T. The incomplete batch at
 * the end is left out, and after the last batch the first one comes again.
 */
export function goldenBatch(golden: Golden, step: number): { tokens: Uint32Array; targets: Uint32Array } {
  const { batch, tokens } = golden;
  const { context: T } = golden.config;
  const windows = Math.floor((tokens.length - 1) / T);
  const start = (step % Math.floor(windows / batch)) * batch * T;
  // Windows with stride T are contiguous, and so are their targets.
  const end = start + batch * T;
  return { tokens: tokens.slice(start, end), targets: tokens.slice(start + 1, end + 1) };
}

/** A copy in float64. */
export function toFloat64(tensors: ReadonlyMap<string, Values>): Map<string, Float64Array> {
  return new Map([...tensors].map(([name, values]) => [name, Float64Array.from(values)]));
}
