import { LantrainError } from '../errors.js';

/** The shape of a GPT-2-style model: pre-LayerNorm, learned positions, tanh-GELU, feed-forward of 4 x width. */
export interface ModelConfig {
  /** V: number of token ids. */
  readonly vocabSize: number;
  /** T: tokens a sequence at most; the length of the position table. */
  readonly context: number;
  /** C: channels. */
  readonly width: number;
  readonly layers: number;
  /** H: heads; divides the width. */
  readonly heads: number;
  /** The head shares the token embedding's matrix. */
  readonly tie: boolean;
  /** Query, key and value projections have a bias. */
  readonly qkvBias: boolean;
}

export const LAYER_NORM_EPSILON = 1e-5;

/** Far beyond any GPT-2; a list of as many parameters can still be made, to say what memory they would need. */
const MOST_LAYERS = 10_000;

/** Throws LT_USAGE_MODEL unless `config` describes a model that can be built. */
export function checkModel(config: ModelConfig): void {
  const positive = { vocabSize: 0, context: 0, width: 0, layers: 0, heads: 0 };
  for (const key of Object.keys(positive) as (keyof typeof positive)[]) {
    const value = config[key];
    if (!Number.isInteger(value) || value < 1)
      throw new LantrainError('LT_USAGE_MODEL', `${key} is ${value}; it must be a whole number of at least 1`);
  }
  if (config.layers > MOST_LAYERS)
    throw new LantrainError('LT_USAGE_MODEL', `--layers ${config.layers} is more than ${MOST_LAYERS}; lower it`);
  if (config.width % config.heads !== 0)
    throw new LantrainError(
      'LT_USAGE_MODEL',
      `width ${config.width} is not divisible by ${config.heads} heads; choose --width as a multiple of --heads`,
    );
}
