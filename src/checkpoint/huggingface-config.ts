import { z } from 'zod';
import { LantrainError } from '../errors.js';
import { fileKind } from '../files/file-kind.js';
import { isSystemError, reason } from '../files/files.js';
import { readRegular } from '../files/regular-file.js';
import { checkModel, LAYER_NORM_EPSILON, MODEL_FIELDS, type ModelConfig } from '../model/config.js';
import { validate } from '../util/validate.js';

/** A field of `ModelConfig` in a GPT-2 config.json. */
interface GptField {
  /** Its names in the file. All are written; the second one is read where the first is missing. */
  readonly names: readonly string[];
  /** The value where the file has none. Without it the field is required. */
  readonly ifAbsent?: boolean;
}

const FIELDS: Readonly<Record<keyof ModelConfig, GptField>> = {
  vocabSize: { names: ['vocab_size'] },
  context: { names: ['n_positions', 'n_ctx'] },
  width: { names: ['n_embd'] },
  heads: { names: ['n_head'] },
  layers: { names: ['n_layer'] },
  tie: { names: ['tie_word_embeddings'], ifAbsent: true },
  // Ours: Hugging Face's GPT-2 always has these biases.
  qkvBias: { names: ['qkv_bias'], ifAbsent: true },
};
const EVERY_FIELD = Object.entries(FIELDS) as [keyof ModelConfig, GptField][];

/** Fields whose values lantrain cannot choose. */
const CONSTANTS = {
  model_type: z.string().optional(),
  n_inner: z.number().nullish(),
  activation_function: z.string().optional(),
  layer_norm_epsilon: z.number().optional(),
  scale_attn_weights: z.boolean().optional(),
  scale_attn_by_inverse_layer_idx: z.boolean().optional(),
  add_cross_attention: z.boolean().optional(),
};

/** The fields of a GPT-2 config.json that describe the model. Other fields (dropout, task settings) are ignored. */
const Gpt2Config = z.looseObject({ ...fieldSchemas(), ...CONSTANTS });

function fieldSchemas(): Record<string, z.ZodType> {
  return Object.fromEntries(
    EVERY_FIELD.flatMap(([field, { names, ifAbsent }]) => {
      const isNeeded = names.length === 1 && ifAbsent === undefined;
      const schema = isNeeded ? MODEL_FIELDS[field] : MODEL_FIELDS[field].optional();
      return names.map((name) => [name, schema]);
    }),
  );
}

/**
 * Reads a Hugging Face GPT-2 `config.json`. Throws LT_CHECKPOINT_CORRUPT where it cannot be read or lacks a field,
 * LT_USAGE_MODEL where it describes a model that lantrain cannot train.
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
  const c: Record<string, unknown> = parsed.data;
  const config = Object.fromEntries(
    EVERY_FIELD.map(([field, { names, ifAbsent }]) => {
      const value = names.map((name) => c[name]).find((one) => one !== undefined) ?? ifAbsent;
      if (value === undefined) throw new LantrainError('LT_CHECKPOINT_CORRUPT', `${path}: ${names[0]} is missing`);
      return [field, value];
    }),
  ) as unknown as ModelConfig;
  const only = (key: keyof typeof CONSTANTS, wanted: readonly unknown[]) => {
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
  only('n_inner', [4 * config.width]);
  only('scale_attn_weights', [true]);
  only('scale_attn_by_inverse_layer_idx', [false]);
  only('add_cross_attention', [false]);
  checkModel(config);
  return config;
}

function isRun(json: unknown): boolean {
  return typeof json === 'object' && json !== null && 'model' in json && 'options' in json && !('n_embd' in json);
}

/** The text of a `config.json` that `transformers` and lantrain read as this model. */
export function modelConfigJson(config: ModelConfig): string {
  const endOfText = config.vocabSize === 50257 ? 50256 : null;
  const json = {
    model_type: 'gpt2',
    architectures: ['GPT2LMHeadModel'],
    ...Object.fromEntries(EVERY_FIELD.flatMap(([field, { names }]) => names.map((name) => [name, config[field]]))),
    n_inner: null,
    activation_function: 'gelu_new',
    layer_norm_epsilon: LAYER_NORM_EPSILON,
    resid_pdrop: 0,
    embd_pdrop: 0,
    attn_pdrop: 0,
    bos_token_id: endOfText,
    eos_token_id: endOfText,
    torch_dtype: 'float32',
  };
  return `${JSON.stringify(json, null, 1)}\n`;
}

/** Parses a JSON file of at most 16 MiB. Throws LT_CHECKPOINT_CORRUPT where it cannot be read or is not JSON. */
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
