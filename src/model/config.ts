import { z } from 'zod';
import { LantrainError } from '../errors.js';
import { validate } from '../util/validate.js';

export const LAYER_NORM_EPSILON = 1e-5;

/**
 * The largest shapes, wherever they come from: files, options, the wire. Far beyond GPT-3 (96 layers, 96 heads, width
 * 12,288, 1.7e11 parameters), and small enough that lists of layers, tensors and buckets fit any memory and that index
 * arithmetic stays exact in float64.
 */
export const BOUNDS = {
  vocabSize: 2 ** 20,
  context: 2 ** 17,
  width: 2 ** 16,
  layers: 2 ** 10,
  heads: 2 ** 12,
  parameters: 2 ** 38,
  /** Tokens of a micro-batch: kernels put one workgroup row on each. */
  rows: 2 ** 16 - 1,
  /** Of a step: the exact sum holds no more. */
  microBatches: 2 ** 10,
  /** Frames and messages count steps in 32 bits. */
  steps: 2 ** 32 - 1,
} as const;

/** A whole number from 1 to `most`. */
export const upTo = (most: number) => z.number().int().min(1).max(most);

/**
 * The fields of a model: options, a run's `config.json`, Hugging Face's and the messages of a cluster take them from
 * here. A field that is added has a default in its schema, what runs without it have computed, as their files lack it.
 */
export const MODEL_FIELDS = {
  /** V: number of token ids. */
  vocabSize: upTo(BOUNDS.vocabSize),
  /** T: tokens a sequence at most; the length of the position table. */
  context: upTo(BOUNDS.context),
  /** C: channels. */
  width: upTo(BOUNDS.width),
  layers: upTo(BOUNDS.layers),
  /** H: heads; divides the width. */
  heads: upTo(BOUNDS.heads),
  /** The head shares the token embedding's matrix. */
  tie: z.boolean(),
  /** Query, key and value projections have a bias. */
  qkvBias: z.boolean(),
};

/** The shape of a GPT-2-style model: pre-LayerNorm, learned positions, tanh-GELU, feed-forward of 4 x width. */
export interface ModelConfig extends Readonly<z.output<z.ZodObject<typeof MODEL_FIELDS>>> {}

/** A model's shape in a file or a message. */
export const ModelSchema = z.strictObject(MODEL_FIELDS).superRefine((model, context) => {
  const wrong = context.issues.length > 0 ? undefined : wrongTogether(model);
  if (wrong !== undefined) context.addIssue({ code: 'custom', message: wrong });
});

function wrongTogether(model: ModelConfig): string | undefined {
  const { width, heads } = model;
  if (width % heads !== 0)
    return `width ${width} is not divisible by ${heads} heads; choose --width as a multiple of --heads`;
  const count = countParameters(model);
  return count > BOUNDS.parameters
    ? `${count.toPrecision(3)} parameters are more than 2^38; choose fewer --layers or a smaller --width`
    : undefined;
}

/** What `parameters` of parameters.ts add up to, for shapes whose list would be too long to make. */
function countParameters({ vocabSize: V, context: T, width: C, layers, tie, qkvBias }: ModelConfig): number {
  const layer = 12 * C * C + (qkvBias ? 13 : 10) * C;
  return (tie ? V : 2 * V) * C + T * C + layers * layer + 2 * C;
}

/** Throws LT_USAGE_MODEL unless `config` describes a model that can be built. */
export function checkModel(config: ModelConfig): void {
  const parsed = validate<ModelConfig>(ModelSchema, config);
  if (parsed.ok) return;
  const { path, words } = parsed;
  const value = path === '' ? '' : `${path} is ${config[path as keyof ModelConfig]}; it `;
  throw new LantrainError('LT_USAGE_MODEL', value + words);
}

/** `4 layers, 4 heads, width 128, ...`, for people. */
export function describeModel({ layers, heads, width, context, vocabSize, tie }: ModelConfig): string {
  return `${layers} layers, ${heads} heads, width ${width}, context ${context}, vocabulary ${vocabSize}${tie ? ', tied' : ''}`;
}
