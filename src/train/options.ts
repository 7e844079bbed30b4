import { z } from 'zod';
import { BOUNDS, ModelSchema } from '../model/config.js';
import { INITIALIZATIONS } from '../model/initialize.js';
import { PRECISIONS } from '../model/shape.js';
import { SCHEDULES } from './schedule.js';

/** More tokens than any prompt, answer or window has. */
const MOST_TOKENS = 2 ** 20;
const MOST_TEXT = 2 ** 20;
const MOST_BATCH = BOUNDS.rows * BOUNDS.microBatches;

const upTo = (most: number) => z.number().int().min(1).max(most);
const noneUpTo = (most: number) => z.number().int().min(0).max(most);
const { layers, heads, width, context } = ModelSchema.shape;
const share = z.number().min(0).lt(1);
const positive = z.number().positive();

/** Every option of a training run; the command line, presets and `config.json` all speak this table. */
export const TrainOptionsSchema = z.object({
  layers,
  heads,
  width,
  context,
  tie: z.boolean(),
  qkvBias: z.boolean(),
  /** How fresh weights are drawn. */
  weights: z.enum(INITIALIZATIONS),
  data: z.string().min(1).max(MOST_TEXT),
  tokenizer: z.enum(['gpt2', 'bytes']),
  /** Whole epochs, or updates where `steps` is above 0. */
  epochs: upTo(BOUNDS.steps),
  steps: noneUpTo(BOUNDS.steps),
  /** Sequences of a global batch, and of a micro-batch (0: chosen from the batch). */
  batch: upTo(MOST_BATCH),
  microBatch: noneUpTo(BOUNDS.rows),
  /** Tokens from one window's start to the next (0: the context). */
  stride: noneUpTo(Number.MAX_SAFE_INTEGER),
  valRatio: share,
  shuffle: z.boolean(),
  lr: positive,
  weightDecay: z.number().min(0),
  decay: z.enum(['all', 'matrices']),
  beta1: share,
  beta2: share,
  eps: positive,
  schedule: z.enum(SCHEDULES),
  warmup: noneUpTo(BOUNDS.steps),
  /** Largest gradient norm; 0 is off. */
  clip: z.number().min(0),
  dropout: share,
  /** Backward computes the layers again instead of keeping them: less memory, the same bits. */
  recompute: z.boolean().default(false),
  /** Micro-batches computed at once (0: as many as pay and fit): more memory, less time, the same bits. */
  stack: noneUpTo(BOUNDS.microBatches).default(0),
  /** `f16`: mixed precision. */
  precision: z.enum(PRECISIONS).default('f32'),
  /** Updates between evaluations, and batches of one; 0 is off. */
  evalEvery: noneUpTo(BOUNDS.steps),
  evalBatches: upTo(BOUNDS.steps),
  /** Updates between samples (0: after each epoch); tokens of one (0: none). */
  sampleEvery: noneUpTo(BOUNDS.steps),
  prompt: z.string().max(MOST_TEXT),
  sampleTokens: noneUpTo(MOST_TOKENS),
  /** 0 is greedy. */
  temperature: z.number().min(0),
  /** 0 keeps all tokens. */
  topK: noneUpTo(BOUNDS.vocabSize),
  /** Updates (`500`) or seconds (`600s`) between checkpoints; `0` writes only the last. */
  checkpointEvery: z
    .string()
    .regex(/^\d{1,12}s?$/, 'must be a number of steps such as 500, or of seconds such as 600s'),
  seed: z.number().int().min(0).max(Number.MAX_SAFE_INTEGER),
});

export type TrainOptions = z.infer<typeof TrainOptionsSchema>;

/** What holds without a preset, and below every preset. */
export const BASE_OPTIONS: TrainOptions = {
  layers: 4,
  heads: 4,
  width: 128,
  context: 64,
  tie: true,
  qkvBias: true,
  weights: 'gpt2',
  data: 'moby-dick',
  tokenizer: 'gpt2',
  epochs: 1,
  steps: 0,
  batch: 8,
  microBatch: 0,
  stride: 0,
  valRatio: 0.1,
  shuffle: true,
  lr: 4e-4,
  weightDecay: 0.1,
  decay: 'all',
  beta1: 0.9,
  beta2: 0.999,
  eps: 1e-8,
  schedule: 'constant',
  warmup: 0,
  clip: 0,
  dropout: 0.1,
  recompute: false,
  stack: 0,
  precision: 'f32',
  evalEvery: 50,
  evalBatches: 5,
  sampleEvery: 0,
  prompt: 'Every effort moves you',
  sampleTokens: 50,
  temperature: 0,
  topK: 0,
  checkpointEvery: '600s',
  seed: 42,
};

/** Settings of GPT-3's paper (Brown et al. 2020, table 2.1) for shapes of OpenAI's GPT-2. */
const gpt2 = (layers: number, heads: number, width: number, lr: number): Partial<TrainOptions> => ({
  layers,
  heads,
  width,
  context: 1024,
  tokenizer: 'gpt2',
  batch: 8,
  microBatch: 1,
  lr,
  beta2: 0.95,
  decay: 'matrices',
  schedule: 'cosine',
  warmup: 100,
  clip: 1,
  evalEvery: 100,
});

export const PRESETS = {
  tiny: {
    tokenizer: 'bytes',
    steps: 500,
    batch: 16,
    microBatch: 2,
    lr: 1e-3,
    warmup: 20,
    clip: 1,
    dropout: 0,
    evalEvery: 25,
    sampleEvery: 100,
    prompt: 'The whale ',
    sampleTokens: 120,
    temperature: 0.7,
    topK: 20,
  },
  verdict: {
    layers: 12,
    heads: 12,
    width: 768,
    context: 256,
    tie: false,
    qkvBias: false,
    weights: 'pytorch',
    data: 'verdict',
    tokenizer: 'gpt2',
    epochs: 10,
    batch: 2,
    microBatch: 1,
    stride: 256,
    evalEvery: 5,
  },
  gpt2: gpt2(12, 12, 768, 6e-4),
  'gpt2-medium': gpt2(24, 16, 1024, 3e-4),
  'gpt2-large': gpt2(36, 20, 1280, 2.5e-4),
  'gpt2-xl': gpt2(48, 25, 1600, 2e-4),
} as const satisfies Record<string, Partial<TrainOptions>>;

export type PresetName = keyof typeof PRESETS;

/** The largest divisor of the batch that is at most an eighth of it, at least 1. */
export function defaultMicroBatch(batch: number): number {
  for (let n = Math.floor(batch / 8); n > 1; n--) if (batch % n === 0) return n;
  return 1;
}

/** Updates or milliseconds between checkpoints. */
export function checkpointInterval(text: string): { readonly steps: number; readonly milliseconds: number } {
  const amount = Number.parseInt(text, 10);
  return text.endsWith('s') ? { steps: 0, milliseconds: 1000 * amount } : { steps: amount, milliseconds: 0 };
}
