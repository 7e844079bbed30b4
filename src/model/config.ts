import { z } from 'zod';
import { LantrainError } from '../errors.js';
import { validate } from '../util/validate.js';

export const LAYER_NORM_EPSILON = 1e-5;

/**
 * The largest shapes that files, options and the wire may give. They are far beyond GPT-3 (96 layers, 96 heads, width
 * 12,288, 1.7e11 parameters), but lists of layers, tensors and buckets still fit any memory, and index arithmetic stays
 * exact in float64.
 */
export const BOUNDS = {
  vocabSize: 2 ** 20,
  context: 2 ** 17,
  width: 2 ** 16,
  layers: 2 ** 10,
  heads: 2 ** 12,
  parameters: 2 ** 38,
  /** Tokens of a micro-batch: kernels dispatch a row of workgroups for each. */
  rows: 2 ** 16 - 1,
  /** Of a step: the 64-bit sum holds no more. */
  microBatches: 2 ** 10,
  /** Frames and messages count steps in 32 bits. */
  steps: 2 ** 32 - 1,
} as const;

/** A whole number from 1 to `most`. */
export const upTo = (most: number) => z.number().int().min(1).max(most);

/**
 * The fields of a model, for options, for a run's `config.json` and Hugging Face's, and for a cluster's messages. A field
 * that is added later needs a default in its schema: what runs computed before, because their files lack the field.
 */
export const MODEL_FIELDS = {
  /** V: number of token ids. */
  vocabSize: upTo(BOUNDS.vocabSize),
  /** T: most tokens of a sequence; the length of the position table. */
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

/** The schema of a model's shape in files and messages. */
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

/** The sum of the sizes of `parameters` (parameters.ts), for shapes whose list would be too long to make. */
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
