import { type Dataset, openDataset } from '../data/dataset.js';
import { TOKEN_ARRAYS, type TokenData, tokenArrays } from '../data/token-arrays.js';
import { loadTokenizer, type Tokenizer } from '../data/tokenizer.js';
import { LantrainError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import { type MemoryBudget, memoryBudget } from '../model/activations.js';
import { checkModel, type ModelConfig } from '../model/config.js';
import type { Plan } from '../model/plan.js';
import type { BatchShape } from '../model/shape.js';
import { openGpu } from '../node/open-gpu.js';
import { version } from '../node/version.js';
import { shapeOptionsOf, type TrainOptions } from '../train/options.js';
import type { RunConfig } from '../train/run-config.js';
import { trainingWindows, validationWindows } from '../train/trainer.js';
import { checkMemory, clusterBudget, stackedShape } from './fit.js';
import { checkInit } from './init-model.js';
import { checkPrecision, checkTuning, type PlanSources, resolvePlan, tunedPlan } from './plan.js';
import {
  checkBatch,
  microBatchShape,
  type OptionSources,
  resolveModel,
  resolveOptions,
  totalStepsOf,
} from './resolve.js';
import { checkPresetOfResume } from './resume-preset.js';
import { noting, progressing, type Tell } from './tell.js';

/** A training job that is checked and can start. Nothing is written yet. */
export interface TrainingJob {
  readonly config: RunConfig;
  readonly data: Dataset;
  /** Undefined where no samples are asked for, or where the tokenizer has ids that the model lacks. */
  readonly tokenizer: Tokenizer | undefined;
  readonly gpu: Gpu;
  /** The kernels for this adapter: the run's plan, with faster kernels of equal bits in it. */
  readonly plan: Plan;
  /** The shape of what this process computes at once. */
  readonly shape: BatchShape;
  readonly budget: MemoryBudget;
}

export interface TrainingJobRequest extends OptionSources, PlanSources {
  /** Token ids, where the data are not a path or a name. */
  readonly tokens?: TokenData;
  readonly init?: string;
  readonly adapter?: string;
  /** This process computes the steps alone. Otherwise workers do, and each chooses its own stack. */
  readonly alone: boolean;
  /** Some of the workers' results are computed again here. */
  readonly audits?: boolean;
  /** Aborted: the preparation stops after its current stage and throws the signal's reason. */
  readonly signal?: AbortSignal;
  readonly tell: Tell;
}

/**
 * Checks everything that can be checked before anything is written. Throws a LantrainError that says what is wrong, and
 * then closes what it has opened. The caller closes the job's data and destroys its device.
 */
export async function prepareJob(request: TrainingJobRequest): Promise<TrainingJob> {
  const { saved, init, explicit, preset, tell, signal } = request;
  checkTuning(request);
  if (saved && preset) checkPresetOfResume(preset, saved.options, explicit);
  const initModel = init === undefined ? undefined : await checkInit(init, noting(tell));
  const options = resolveOptions(request, initModel);
  if (request.tune && options.precision === 'f16')
    throw new LantrainError(
      'LT_USAGE_OPTION',
      '--tune times kernels on float32, which says nothing of --precision f16; leave one of the two out',
    );
  const tokenizer = await loadTokenizer(options.tokenizer);
  const model = saved
    ? { ...saved.model, ...shapeOptionsOf(explicit) }
    : resolveModel(options, explicit, initModel, tokenizer, init);
  checkModel(model);
  checkBatch(options, model.context);
  const data = await openData(request, options, tokenizer, model.vocabSize);
  let gpu: Gpu | undefined;
  try {
    // Checked before any kernel is compiled.
    const { stepsPerEpoch } = trainingWindows({ model, options }, data);
    validationWindows({ model, options }, data);
    const totalSteps = totalStepsOf(options, stepsPerEpoch);
    signal?.throwIfAborted();
    gpu = await openGpu(request.adapter);
    const computed = await kernelsAndMemory(request, gpu, model, options);
    signal?.throwIfAborted();
    const config: RunConfig = {
      version: saved?.version ?? version(),
      model,
      options,
      plan: request.tune ? computed.plan : computed.base,
      data: { hash: data.hash, description: data.description },
      init: saved?.init ?? init,
      adapter: saved?.adapter ?? gpu.adapter.driver,
      totalSteps,
      stepsPerEpoch,
    };
    // Samples need a model that knows every id of the tokenizer.
    const speaks = tokenizer.vocabSize <= model.vocabSize && options.sampleTokens > 0;
    const { plan, shape, budget } = computed;
    return { config, data, tokenizer: speaks ? tokenizer : undefined, gpu, plan, shape, budget };
  } catch (error) {
    gpu?.device.destroy();
    data.close();
    throw error;
  }
}

/** `base`: the run's plan; `plan`: what this adapter runs. */
async function kernelsAndMemory(
  request: TrainingJobRequest,
  gpu: Gpu,
  model: ModelConfig,
  options: TrainOptions,
): Promise<Pick<TrainingJob, 'plan' | 'shape' | 'budget'> & { readonly base: Plan }> {
  const { alone, audits = false, tell } = request;
  const base = resolvePlan(request, gpu, options.precision);
  const single = microBatchShape({ model, options });
  checkPrecision(gpu, single, model.width);
  const shape = alone ? stackedShape(gpu, model, single, base, options) : single;
  // A coordinator first computes the probe of its bit class, which needs a trainer's memory, on a separate device.
  checkMemory(gpu, model, shape, base, memoryBudget(model, shape, base));
  const plan = await tunedPlan(request.tune, gpu, model, shape, base, tell);
  const budget = alone
    ? memoryBudget(model, shape, plan)
    : clusterBudget(gpu, model, shape, plan, options.clip === 0, audits);
  if (!alone) checkMemory(gpu, model, shape, base, budget);
  return { base, plan, shape, budget };
}

/**
 * Throws LT_DATA_MISSING where a run of token arrays is resumed without them, and as `openDataset` and `tokenArrays`
 * do.
 */
async function openData(
  { tokens, tell }: TrainingJobRequest,
  { data: source, valRatio }: TrainOptions,
  tokenizer: Tokenizer,
  vocabSize: number,
): Promise<Dataset> {
  if (tokens !== undefined) return tokenArrays(tokens, vocabSize, valRatio);
  if (source === TOKEN_ARRAYS)
    throw new LantrainError(
      'LT_DATA_MISSING',
      'the data of this run were token arrays, which it does not keep: give them again as data, or --data FILE with the same ids',
    );
  const onProgress = progressing(tell, 'reading the data');
  return openDataset({ source, tokenizer, vocabSize, valRatio, onProgress, onNote: noting(tell) });
}
