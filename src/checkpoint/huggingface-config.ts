import { z } from 'zod';
import { LantrainError } from '../errors.js';
import { fileKind } from '../files/file-kind.js';
import { isSystemError, reason } from '../files/files.js';
import { readRegular } from '../files/regular-file.js';
import { checkModel, LAYER_NORM_EPSILON, type ModelConfig, ModelSchema } from '../model/config.js';
import { validate } from '../util/validate.js';

const { vocabSize, context, width, heads, layers } = ModelSchema.shape;

/** What a GPT-2 config.json says about the shape; everything else in it (dropout, task settings) is passed over. */
const Gpt2Config = z.looseObject({
  model_type: z.string().optional(),
  vocab_size: vocabSize,
  n_positions: context.optional(),
  n_ctx: context.optional(),
  n_embd: width,
  n_head: heads,
  n_layer: layers,
  n_inner: z.number().nullish(),
  activation_function: z.string().optional(),
  layer_norm_epsilon: z.number().optional(),
  tie_word_embeddings: z.boolean().optional(),
  /** Ours: Hugging Face's GPT-2 always has these biases. */
  qkv_bias: z.boolean().optional(),
  scale_attn_weights: z.boolean().optional(),
  scale_attn_by_inverse_layer_idx: z.boolean().optional(),
  add_cross_attention: z.boolean().optional(),
});

/**
 * Reads a Hugging Face GPT-2 `config.json`. Throws LT_CHECKPOINT_CORRUPT where it cannot be read or lacks a field, and
 * LT_USAGE_MODEL where it describes a model that lantrain does not have.
 */
export function readModelConfig(path: string): ModelConfig {
  const json = readJson(path);
  if (isRun(json))
    throw new LantrainError(
      'LT_CHECKPOINT_CORRUPT',
      `${path} is that of a run: weights to begin with lie in its checkpoints/<step>, and the command export writes them out`,
    );
  const parsed = validate(Gpt2Config, json);
  if (!parsed.ok) throw new LantrainError('LT_CHECKPOINT_CORRUPT', `${path}: ${parsed.wrong}`);
  const c = parsed.data;
  const positions = c.n_positions ?? c.n_ctx;
  if (positions === undefined) throw new LantrainError('LT_CHECKPOINT_CORRUPT', `${path}: n_positions is missing`);
  const only = (key: keyof typeof c, wanted: readonly unknown[]) => {
    const value = c[key];
    if (value !== undefined && value !== null && !wanted.includes(value))
      throw new LantrainError(
        'LT_USAGE_MODEL',
        `${path}: ${key} is ${JSON.stringify(value)}; lantrain trains GPT-2 models, in which it is ${wanted.join(' or ')}`,
      );
  };
  only('model_type', ['gpt2']);
  only('activation_function', ['gelu_new', 'gelu_pytorch_tanh']);
  only('layer_norm_epsilon', [LAYER_NORM_EPSILON]);
  only('n_inner', [4 * c.n_embd]);
  only('scale_attn_weights', [true]);
  only('scale_attn_by_inverse_layer_idx', [false]);
  only('add_cross_attention', [false]);
  const config: ModelConfig = {
    vocabSize: c.vocab_size,
    context: positions,
    width: c.n_embd,
    layers: c.n_layer,
    heads: c.n_head,
    tie: c.tie_word_embeddings ?? true,
    qkvBias: c.qkv_bias ?? true,
  };
  checkModel(config);
  return config;
}

function isRun(json: unknown): boolean {
  return typeof json === 'object' && json !== null && 'model' in json && 'options' in json && !('n_embd' in json);
}

/** The `config.json` that `transformers` and lantrain read back as this model. */
export function modelConfigJson(config: ModelConfig): string {
  const endOfText = config.vocabSize === 50257 ? 50256 : null;
  const json = {
    model_type: 'gpt2',
    architectures: ['GPT2LMHeadModel'],
    vocab_size: config.vocabSize,
    n_positions: config.context,
    n_ctx: config.context,
    n_embd: config.width,
    n_head: config.heads,
    n_layer: config.layers,
    n_inner: null,
    activation_function: 'gelu_new',
    layer_norm_epsilon: LAYER_NORM_EPSILON,
    resid_pdrop: 0,
    embd_pdrop: 0,
    attn_pdrop: 0,
    bos_token_id: endOfText,
    eos_token_id: endOfText,
    torch_dtype: 'float32',
    tie_word_embeddings: config.tie,
    qkv_bias: config.qkvBias,
  };
  return `${JSON.stringify(json, null, 1)}\n`;
}

/** A JSON file of settings. Throws LT_CHECKPOINT_CORRUPT where it cannot be read or is no JSON. */
export function readJson(path: string): unknown {
  let bytes = Buffer.of();
  try {
    bytes = readRegular(path);
    return JSON.parse(bytes.toString('utf8'));
  } catch (error) {
    const kind = fileKind(bytes);
    const other = kind ? `is ${kind.name}: ${kind.advice}` : 'is no JSON';
    const what = isSystemError(error) ? `cannot be read: ${reason(error)}` : other;
    throw new LantrainError('LT_CHECKPOINT_CORRUPT', `${path} ${what}`, { cause: error });
  }
}
