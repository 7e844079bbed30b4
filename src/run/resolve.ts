/** Resolves a request to options, the model's shape and the shape of a micro-batch. Pure: nothing is opened. */
import { TOKEN_ARRAYS } from '../data/token-arrays.js';
import type { Tokenizer } from '../data/tokenizer.js';
import { LantrainError } from '../errors.js';
import { BOUNDS, type ModelConfig } from '../model/config.js';
import type { BatchShape } from '../model/shape.js';
import { MOST_ROWS } from '../model/stack.js';
import type { AdamWSettings } from '../train/optimizer.js';
import {
  BASE_OPTIONS,
  defaultMicroBatch,
  shapeOptionsOf,
  TRAIN_OPTION_NAMES,
  TRAIN_OPTIONS,
  type TrainOptions,
  TrainOptionsSchema,
} from '../train/options.js';
import { DEFAULT_PRESET, PRESETS, type PresetName, presetNamed } from '../train/presets.js';
import type { RunConfig } from '../train/run-config.js';
import { validate } from '../util/validate.js';
import type { TrainRequest } from './request.js';
import { RUN_OPTIONS } from './run-options.js';

/** Inputs of the resolution of options. */
export interface OptionSources {
  readonly preset?: PresetName;
  /** Options that the user gave. They override the preset's. */
  readonly explicit: Partial<TrainOptions>;
  /** The run to resume. */
  readonly saved?: RunConfig;
}

/**
 * The training options that a request gives. Throws LT_USAGE_OPTION for an unknown option or an impossible value,
 * LT_USAGE_PRESET for an unknown preset.
 */
export function explicitOptions(request: TrainRequest): Partial<TrainOptions> {
  const { data, preset } = request;
  const unknown = Object.keys(request).find((name) => !(name in TRAIN_OPTIONS) && !(name in RUN_OPTIONS));
  if (unknown !== undefined) throw new LantrainError('LT_USAGE_OPTION', `there is no option ${unknown}; leave it out`);
  if (preset !== undefined) presetNamed(preset);
  const named: Record<string, unknown> = { ...request };
  if (data !== undefined && typeof data !== 'string') named.data = TOKEN_ARRAYS;
  const given = TRAIN_OPTION_NAMES.filter((name) => named[name] !== undefined);
  const options = Object.fromEntries(given.map((name) => [name, named[name]]));
  const parsed = validate(TrainOptionsSchema.partial(), options);
  if (!parsed.ok) throw new LantrainError('LT_USAGE_OPTION', parsed.wrong);
  return options as Partial<TrainOptions>;
}

/**
 * The complete options: base options, overridden by the saved run's, the preset's and the explicit ones, in that order.
 */
export function resolveOptions({ saved, explicit, preset: asked }: OptionSources, initModel?: ModelConfig) {
  // The default preset is not applied to weights of `init`: its settings would fit neither their shape nor their
  // tokens.
  const preset = asked ?? (saved || initModel ? undefined : DEFAULT_PRESET);
  const presetOptions: Partial<TrainOptions> = preset ? PRESETS[preset] : {};
  const options: TrainOptions = { ...BASE_OPTIONS, ...saved?.options, ...presetOptions, ...explicit };
  if (explicit.epochs !== undefined && explicit.steps === undefined) options.steps = 0;
  if (initModel) {
    Object.assign(options, shapeOptionsOf(initModel));
    if (explicit.tokenizer === undefined && !asked) options.tokenizer = initModel.vocabSize < 50257 ? 'bytes' : 'gpt2';
  }
  const fits =
    options.microBatch > 0 && (options.batch % options.microBatch === 0 || explicit.microBatch !== undefined);
  if (!fits) options.microBatch = defaultMicroBatch(options.batch);
  if (options.stride === 0) options.stride = options.context;
  return options;
}

/**
 * The shape of a new run's model. `init`: the shape of the weights in the folder `dir`. Throws LT_USAGE_MODEL where an
 * explicit option differs from it.
 */
export function resolveModel(
  options: TrainOptions,
  explicit: Partial<TrainOptions>,
  init: ModelConfig | undefined,
  tokenizer: Tokenizer,
  dir: string | undefined,
): ModelConfig {
  if (init === undefined) {
    return { vocabSize: tokenizer.vocabSize, ...shapeOptionsOf(options) };
  }
  for (const [name, asked] of Object.entries(shapeOptionsOf(explicit))) {
    const has = init[name as keyof ModelConfig];
    if (asked !== has)
      throw new LantrainError(
        'LT_USAGE_MODEL',
        `--init ${dir} has ${name} ${has}, but ${asked} was asked for; leave that option out`,
      );
  }
  return init;
}

/** Throws LT_USAGE_BATCH where the batch cannot be divided into its micro-batches, or a micro-batch is too large. */
export function checkBatch({ batch, microBatch }: TrainOptions, context: number): void {
  if (context > MOST_ROWS)
    throw new LantrainError('LT_USAGE_BATCH', `a context of ${context} tokens exceeds ${MOST_ROWS}; lower --context`);
  if (microBatch * context > MOST_ROWS)
    throw new LantrainError(
      'LT_USAGE_BATCH',
      `a micro-batch of ${microBatch} x ${context} tokens exceeds ${MOST_ROWS}; lower --micro-batch`,
    );
  if (batch % microBatch !== 0)
    throw new LantrainError(
      'LT_USAGE_BATCH',
      `batch ${batch} is not divisible by micro-batch ${microBatch}; choose --micro-batch ${defaultMicroBatch(batch)}`,
    );
  if (batch / microBatch > BOUNDS.microBatches)
    throw new LantrainError(
      'LT_USAGE_BATCH',
      `batch ${batch} makes ${batch / microBatch} micro-batches, more than the exact sum can hold (1024); raise --micro-batch`,
    );
}

/** The number of steps of a run: `steps`, or that of `epochs`. Throws LT_USAGE_OPTION for more than BOUNDS.steps. */
export function totalStepsOf({ steps, epochs }: TrainOptions, stepsPerEpoch: number): number {
  const total = steps > 0 ? steps : epochs * stepsPerEpoch;
  if (total <= BOUNDS.steps) return total;
  throw new LantrainError(
    'LT_USAGE_OPTION',
    `--epochs ${epochs} are ${total} steps, more than ${BOUNDS.steps}; lower it`,
  );
}

export function adamwOf(options: TrainOptions): AdamWSettings {
  const { beta1, beta2, eps: epsilon, weightDecay, decay } = options;
  return { beta1, beta2, epsilon, weightDecay, decay };
}

/** The shape of one micro-batch. The wire is named only where it is low, so that shapes of exact runs stay as they were. */
export function microBatchShape({ model, options }: Pick<RunConfig, 'model' | 'options'>): BatchShape {
  const { microBatch, dropout, recompute, precision, wire } = options;
  const shape = { batch: microBatch, context: model.context, dropout, recompute, precision };
  return wire === 'low' ? { ...shape, wire } : shape;
}

/** The options that all engines of a run share. In the low wire an engine cannot do without `microBatches`. */
export function engineOptions<P>({ model, options }: Pick<RunConfig, 'model' | 'options'>, shape: BatchShape, plan: P) {
  const { clip, batch, microBatch } = options;
  return { model, shape, plan, adamw: adamwOf(options), clip, microBatches: batch / microBatch };
}
