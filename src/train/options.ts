import { z } from 'zod';
import { BOUNDS, MODEL_FIELDS, type ModelConfig, upTo } from '../model/config.js';
import { INITIALIZATIONS } from '../model/initialize.js';
import { PRECISIONS } from '../model/precision.js';
import { WIRES } from '../model/wire.js';
import { namesOf, type OptionFacts, type OptionPlace } from './option-table.js';
import { SCHEDULES } from './schedule.js';

/*
 * Every option that a run's configuration keeps, one row each. A new option of `train` is a row here and its use.
 */

/** More tokens than any sample needs. */
const MOST_TOKENS = 2 ** 20;
const MOST_TEXT = 2 ** 20;
const MOST_BATCH = BOUNDS.rows * BOUNDS.microBatches;

const zeroUpTo = (most: number) => z.number().int().min(0).max(most);
const { layers, heads, width, context, tie, qkvBias } = MODEL_FIELDS;
const share = z.number().min(0).lt(1);
const positive = z.number().positive();

interface TrainFacts<Value> extends OptionFacts<Value> {
  readonly default: Value;
  /** Whether configurations of older versions lack it; such runs had the default, or `before`. */
  readonly isLater?: boolean;
  readonly before?: Value;
}

interface TrainPlace extends OptionPlace {
  /** Whether it belongs to the run's identity. Other options may change on resume. */
  readonly changesBits: boolean;
  readonly affectsSpeed: boolean;
}

export interface TrainRow<S extends z.ZodType = z.ZodType> extends TrainFacts<z.output<S>>, TrainPlace {
  readonly schema: S;
}

/** Makes a function for rows of a topic: rows have the `shared` facts unless their own say otherwise. */
const topic =
  (shared: TrainPlace) =>
  <S extends z.ZodType>(schema: S, own: TrainFacts<z.output<S>> & Partial<TrainPlace>): TrainRow<S> => ({
    ...shared,
    ...own,
    schema,
  });

const run = topic({ topic: 'Run', changesBits: false, affectsSpeed: false });
const model = topic({ topic: 'Model', changesBits: true, affectsSpeed: true });
const data = topic({ topic: 'Data', changesBits: true, affectsSpeed: false });
const optimizer = topic({ topic: 'Optimizer', changesBits: true, affectsSpeed: false });
const computing = topic({ topic: 'Computing', changesBits: false, affectsSpeed: true });
const reports = topic({ topic: 'Reports', changesBits: false, affectsSpeed: false });

export const TRAIN_OPTIONS = {
  epochs: run(upTo(BOUNDS.steps), { value: '<n>', help: 'passes over the training text', default: 1 }),
  // Changes bits only where the learning rate depends on it: see `identityOf`.
  steps: run(zeroUpTo(BOUNDS.steps), {
    value: '<n>',
    help: 'updates, instead of epochs',
    default: 0,
    defaultWords: 'as the epochs say',
    // 0, in a run's configuration, stands for epochs.
    given: upTo(BOUNDS.steps),
  }),
  // The benchmarks draw their tokens from it.
  seed: run(zeroUpTo(Number.MAX_SAFE_INTEGER), {
    value: '<n>',
    help: 'of weights, order, dropout and samples',
    default: 42,
    changesBits: true,
    affectsSpeed: true,
  }),

  layers: model(layers, { value: '<n>', help: 'transformer blocks', default: 4 }),
  heads: model(heads, { value: '<n>', help: 'attention heads a block', default: 4 }),
  width: model(width, { value: '<n>', help: 'channels', default: 128 }),
  context: model(context, { value: '<n>', help: 'tokens of a sequence', default: 64 }),
  tie: model(tie, {
    help: 'the head shares the token embedding',
    no: 'the head has a matrix of its own',
    default: true,
  }),
  qkvBias: model(qkvBias, {
    help: 'query, key and value have a bias',
    no: 'query, key and value have none',
    default: true,
  }),
  weights: model(z.enum(INITIALIZATIONS), {
    value: '<how>',
    help: 'how fresh weights are drawn',
    default: 'gpt2',
    affectsSpeed: false,
  }),

  // The identity has the hash of the data instead.
  data: data(z.string().min(1).max(MOST_TEXT), {
    value: '<source>',
    help: 'a text file, a folder of them, token ids (.bin, .npy), moby-dick or verdict',
    default: 'moby-dick',
    changesBits: false,
  }),
  tokenizer: data(z.enum(['gpt2', 'bytes']), {
    value: '<name>',
    help: 'how text becomes tokens',
    default: 'gpt2',
    affectsSpeed: true,
  }),
  batch: data(upTo(MOST_BATCH), { value: '<n>', help: 'sequences of a step', default: 8, affectsSpeed: true }),
  microBatch: data(zeroUpTo(BOUNDS.rows), {
    value: '<n>',
    help: 'sequences of a share of work; divides the batch',
    default: 0,
    defaultWords: 'up to an eighth of the batch',
    affectsSpeed: true,
  }),
  stride: data(zeroUpTo(Number.MAX_SAFE_INTEGER), {
    value: '<n>',
    help: 'tokens from one sequence to the next',
    default: 0,
    defaultWords: 'the context',
  }),
  valRatio: data(share, {
    value: '<share>',
    help: 'the part at the end kept for validation; 0: none',
    default: 0.1,
  }),
  shuffle: data(z.boolean(), { help: 'another order in every epoch, from the seed', no: 'in order', default: true }),

  lr: optimizer(positive, { value: '<rate>', help: 'the (peak) learning rate', default: 4e-4 }),
  weightDecay: optimizer(z.number().min(0), { value: '<x>', help: 'decoupled weight decay', default: 0.1 }),
  decay: optimizer(z.enum(['all', 'matrices']), { value: '<what>', help: 'what decays', default: 'all' }),
  beta1: optimizer(share, { value: '<x>', help: "AdamW's first decay rate", default: 0.9 }),
  beta2: optimizer(share, { value: '<x>', help: "AdamW's second decay rate", default: 0.999 }),
  eps: optimizer(positive, { value: '<x>', help: "AdamW's epsilon", default: 1e-8 }),
  schedule: optimizer(z.enum(SCHEDULES), {
    value: '<name>',
    help: 'how the learning rate goes on after the warm-up',
    default: 'constant',
  }),
  warmup: optimizer(zeroUpTo(BOUNDS.steps), {
    value: '<n>',
    help: 'updates over which the learning rate rises',
    default: 0,
  }),
  clip: optimizer(z.number().min(0), {
    value: '<norm>',
    help: 'largest norm of the gradient; 0: off',
    default: 0,
    affectsSpeed: true,
  }),
  dropout: optimizer(share, {
    value: '<p>',
    help: 'probability that a value is dropped',
    default: 0.1,
    affectsSpeed: true,
  }),

  recompute: computing(z.boolean(), {
    help: 'compute layers again in backward: less memory, more time, the same bits',
    no: 'keep them, where a resumed run did not',
    default: false,
    isLater: true,
  }),
  // Each worker of a cluster chooses for itself.
  stack: computing(zeroUpTo(BOUNDS.microBatches), {
    value: '<n>',
    help: 'micro-batches computed at once, the same bits',
    default: 0,
    defaultWords: 'as many as pay',
    who: 'alone',
    isLater: true,
  }),
  precision: computing(z.enum(PRECISIONS), {
    value: '<type>',
    help: 'portable: the same bits on every adapter; f32: float32 as the driver computes it; f16: products and attention read float16',
    default: 'portable',
    before: 'f32',
    changesBits: true,
    isLater: true,
  }),
  wire: computing(z.enum(WIRES), {
    value: '<name>',
    help: 'exact: gradients in full; low: a seventh of the bytes in a cluster, rounded without bias',
    default: 'exact',
    before: 'exact',
    changesBits: true,
    isLater: true,
  }),

  evalEvery: reports(zeroUpTo(BOUNDS.steps), {
    value: '<n>',
    help: 'updates between evaluations; 0: none',
    default: 50,
  }),
  evalBatches: reports(upTo(BOUNDS.steps), { value: '<n>', help: 'batches of an evaluation', default: 5 }),
  sampleEvery: reports(zeroUpTo(BOUNDS.steps), {
    value: '<n>',
    help: 'updates between samples; 0: after each epoch',
    default: 0,
  }),
  prompt: reports(z.string().max(MOST_TEXT), {
    value: '<text>',
    help: 'what samples begin with',
    default: 'Every effort moves you',
  }),
  sampleTokens: reports(zeroUpTo(MOST_TOKENS), {
    value: '<n>',
    help: 'tokens of a sample; 0: no samples',
    default: 50,
  }),
  temperature: reports(z.number().min(0), {
    value: '<x>',
    help: 'of samples; 0: always the likeliest token',
    default: 0,
  }),
  topK: reports(zeroUpTo(BOUNDS.vocabSize), {
    value: '<n>',
    help: 'sample from the k likeliest tokens; 0: from all',
    default: 0,
  }),
  checkpointEvery: reports(
    z.string().regex(/^\d{1,12}s?$/, 'must be a number of steps such as 500, or of seconds such as 600s'),
    {
      value: '<n>',
      help: 'updates (500) or seconds (600s) between checkpoints; 0: only the last',
      default: '600s',
    },
  ),
} satisfies Record<Exclude<keyof ModelConfig, 'vocabSize'>, unknown> & Record<string, unknown>;

type Rows = typeof TRAIN_OPTIONS;
export type TrainOptionName = keyof Rows;

/** The options of a run, as its `config.json` has them. */
export type TrainOptions = { [K in TrainOptionName]: z.output<Rows[K]['schema']> };

export const TRAIN_OPTION_NAMES = namesOf(TRAIN_OPTIONS);

function byName<T>(value: (row: TrainRow) => T): Record<string, T> {
  return Object.fromEntries(TRAIN_OPTION_NAMES.map((name) => [name, value(TRAIN_OPTIONS[name])]));
}

export const TrainOptionsSchema = z.object(
  byName(({ schema, isLater, default: value, before = value }) => (isLater ? schema.default(before) : schema)) as {
    [K in TrainOptionName]: Rows[K]['schema'];
  },
);

/** The options where neither the user nor a preset says otherwise. */
export const BASE_OPTIONS = byName((row) => row.default) as TrainOptions;

/** The options that shape a model. The number of token ids is not one, because the tokenizer decides it. */
export type ShapeOptions = Omit<ModelConfig, 'vocabSize'>;
const SHAPE_NAMES = Object.keys(MODEL_FIELDS).filter((name) => name !== 'vocabSize') as (keyof ShapeOptions)[];

/** The options of a model's shape that `from` has. */
export function shapeOptionsOf<T extends Partial<ShapeOptions>>(from: T): Pick<T, keyof ShapeOptions & keyof T> {
  const names = SHAPE_NAMES.filter((name) => from[name] !== undefined);
  return Object.fromEntries(names.map((name) => [name, from[name]])) as Pick<T, keyof ShapeOptions & keyof T>;
}

/** The largest divisor of the batch that is at most an eighth of it, or 1. */
export function defaultMicroBatch(batch: number): number {
  for (let n = Math.floor(batch / 8); n > 1; n--) if (batch % n === 0) return n;
  return 1;
}

/** The updates, or the milliseconds, between checkpoints (`--checkpoint-every`); the other one is 0. */
export function checkpointInterval(text: string): { readonly steps: number; readonly milliseconds: number } {
  const amount = Number.parseInt(text, 10);
  return text.endsWith('s') ? { steps: 0, milliseconds: 1000 * amount } : { steps: amount, milliseconds: 0 };
}
