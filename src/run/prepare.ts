import { createHash } from 'node:crypto';
import { loadingBar } from '../cli/loading.js';
import { type Dataset, openDataset } from '../data/dataset.js';
import { loadTokenizer, type Tokenizer } from '../data/tokenizer.js';
import { LantrainError } from '../errors.js';
import { reason } from '../files/files.js';
import { readRegular } from '../files/regular-file.js';
import { adapterTitle, type Gpu } from '../gpu/device.js';
import { type MemoryBudget, memoryBudget, ownerBudget } from '../model/activations.js';
import { BOUNDS, checkModel, type ModelConfig } from '../model/config.js';
import { defaultPlan, missingFor, type Plan } from '../model/plan.js';
import type { BatchShape } from '../model/shape.js';
import { chooseStack, MOST_ROWS, possibleStacks } from '../model/stack.js';
import { pasteable } from '../node/invocation.js';
import { availableMemory } from '../node/memory.js';
import { openGpu } from '../node/open-gpu.js';
import { loadShaders } from '../node/shaders.js';
import { version } from '../node/version.js';
import { formatBytes } from '../report/format.js';
import { BASE_OPTIONS, defaultMicroBatch, shapeOptionsOf, type TrainOptions } from '../train/options.js';
import { DEFAULT_PRESET, PRESET_NAMES, PRESETS, type PresetName } from '../train/presets.js';
import { PlanSchema, type RunConfig } from '../train/run-config.js';
import { trainingWindows, validationWindows } from '../train/trainer.js';
import { validate } from '../util/validate.js';
import { checkInit } from './init-model.js';
import { checkPresetOfResume } from './resume-preset.js';
import { tune, tunesByItself } from './tuning.js';

/** A training run that is checked and can start: nothing has been written yet. */
export interface Job {
  readonly config: RunConfig;
  readonly data: Dataset;
  /** Undefined where the model's tokens have no text. */
  readonly tokenizer: Tokenizer | undefined;
  readonly gpu: Gpu;
  /** What this adapter runs: the run's plan, with kernels in it that were found faster here and bit-equal. */
  readonly plan: Plan;
  /** What this process computes at once. */
  readonly shape: BatchShape;
  readonly budget: MemoryBudget;
}

export interface JobRequest {
  readonly preset?: PresetName;
  /** Options given by the user; they win over the preset's. */
  readonly explicit: Partial<TrainOptions>;
  readonly init?: string;
  /** The run to go on with. */
  readonly saved?: RunConfig;
  readonly adapter?: string;
  /** `auto`, or a JSON file. */
  readonly plan?: string;
  /** True: take the fastest kernels, whatever their bits; false: those of the plan; undefined: of the same bits only. */
  readonly tune?: boolean;
  /** This process computes a step alone; else others do, who choose for themselves how. */
  readonly alone: boolean;
  /** What others compute is confirmed here by samples. */
  readonly audits?: boolean;
  readonly onNote?: (line: string) => void;
  readonly onData?: (done: number, total: number) => void;
}

/** SHA-256 of the plan's JSON, keys sorted. */
export function planHash(plan: Plan): string {
  return createHash('sha256')
    .update(JSON.stringify(Object.entries(plan).sort()))
    .digest('hex');
}

/** Checks everything that can be checked before anything is written. Throws the LantrainError that says what is wrong. */
export async function prepareJob(request: JobRequest): Promise<Job> {
  const { saved, init, explicit } = request;
  checkTuning(request);
  if (saved && request.preset) checkPresetOfResume(request.preset, saved.options, explicit);
  const initModel = init === undefined ? undefined : await checkInit(init, request.onNote);
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
  const data = await openDataset({
    source: options.data,
    tokenizer,
    vocabSize: model.vocabSize,
    valRatio: options.valRatio,
    onProgress: request.onData,
    onNote: request.onNote,
  });
  // Before any kernel is compiled.
  const { stepsPerEpoch } = trainingWindows({ model, options }, data);
  validationWindows({ model, options }, data);
  const totalSteps = options.steps > 0 ? options.steps : options.epochs * stepsPerEpoch;
  if (totalSteps > BOUNDS.steps)
    throw new LantrainError(
      'LT_USAGE_OPTION',
      `--epochs ${options.epochs} are ${totalSteps} steps, more than ${BOUNDS.steps}; lower it`,
    );
  const gpu = await openGpu(request.adapter);
  const plan = resolvePlan(request, gpu);
  const single = shapeOfJob({ model, options });
  checkPrecision(gpu, single, model.width);
  const shape = request.alone ? stackedShape(gpu, model, single, plan, options) : single;
  // A coordinator first computes a probe of a whole step, on a device of its own.
  checkMemory(gpu, model, shape, plan, memoryBudget(model, shape, plan));
  const tuned = await tunedPlan(request, gpu, model, shape, plan);
  const budget = request.alone
    ? memoryBudget(model, shape, tuned)
    : clusterBudget(gpu, model, shape, tuned, options.clip === 0, request.audits === true);
  if (!request.alone) checkMemory(gpu, model, shape, plan, budget);
  const config: RunConfig = {
    version: saved?.version ?? version(),
    model,
    options,
    plan: request.tune ? tuned : plan,
    data: { hash: data.hash, description: data.description },
    init: saved?.init ?? init,
    adapter: saved?.adapter ?? gpu.adapter.driver,
    totalSteps,
    stepsPerEpoch,
  };
  // Ids beyond the tokenizer's have no text, and its text may have ids beyond the model's.
  const speaks = tokenizer.vocabSize <= model.vocabSize && options.sampleTokens > 0;
  return { config, data, tokenizer: speaks ? tokenizer : undefined, gpu, plan: tuned, shape, budget };
}

/** An owner that audits computes micro-batches as well, where there is memory for that. */
function clusterBudget(
  gpu: Gpu,
  model: ModelConfig,
  shape: BatchShape,
  plan: Plan,
  keepsMoments: boolean,
  audits: boolean,
): MemoryBudget {
  const available = availableMemory(gpu.adapter) ?? Number.POSITIVE_INFINITY;
  const budgets = [shape, { ...shape, recompute: true }].map((one) => ownerBudget(model, plan, keepsMoments, one));
  const fitting = audits ? budgets.find(({ totalBytes }) => totalBytes <= available) : undefined;
  return fitting ?? ownerBudget(model, plan, keepsMoments);
}

export function shapeOfJob({ model, options }: Pick<RunConfig, 'model' | 'options'>): BatchShape {
  const { microBatch, dropout, recompute, precision } = options;
  return { batch: microBatch, context: model.context, dropout, recompute, precision };
}

/** `shape` with the stack asked for, or the best one here. Throws LT_USAGE_BATCH for a stack that cannot be. */
export function stackedShape(
  { adapter }: Gpu,
  model: ModelConfig,
  shape: BatchShape,
  plan: Plan,
  { batch, microBatch, stack }: TrainOptions,
): BatchShape {
  const microBatches = batch / microBatch;
  if (stack === 0) {
    const available = availableMemory(adapter) ?? Number.POSITIVE_INFINITY;
    const fits = ({ totalBytes }: MemoryBudget) => totalBytes <= available;
    return { ...shape, stack: chooseStack(model, shape, plan, microBatches, adapter, fits) };
  }
  const possible = possibleStacks(model, shape, plan, microBatches);
  if (!possible.includes(stack))
    throw new LantrainError(
      'LT_USAGE_BATCH',
      `--stack ${stack} cannot be computed: of the step's ${microBatches} micro-batches so many can be stacked: ${possible.toReversed().join(', ')}`,
    );
  return { ...shape, stack };
}

/** What holds in the end: base options, the preset's or the saved run's, and what was given. */
export function resolveOptions(
  request: Pick<JobRequest, 'saved' | 'explicit' | 'preset'>,
  initModel?: ModelConfig,
): TrainOptions {
  const { saved, explicit } = request;
  // Without a preset it is `tiny`; with weights from elsewhere its settings would fit neither shape nor tokens.
  const preset = request.preset ?? (saved || initModel ? undefined : DEFAULT_PRESET);
  const presetOptions: Partial<TrainOptions> = preset ? PRESETS[preset] : {};
  const options = { ...BASE_OPTIONS, ...saved?.options, ...presetOptions, ...explicit };
  if (explicit.epochs !== undefined && explicit.steps === undefined) options.steps = 0;
  if (initModel) {
    Object.assign(options, shapeOptionsOf(initModel));
    if (explicit.tokenizer === undefined && !request.preset)
      options.tokenizer = initModel.vocabSize < 50257 ? 'bytes' : 'gpt2';
  }
  const fits =
    options.microBatch > 0 && (options.batch % options.microBatch === 0 || explicit.microBatch !== undefined);
  if (!fits) options.microBatch = defaultMicroBatch(options.batch);
  if (options.stride === 0) options.stride = options.context;
  return options;
}

function resolveModel(
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

/** Throws LT_USAGE_BATCH. */
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

/** Throws LT_USAGE_OPTION where a plan is asked for twice. */
function checkTuning({ tune: asked, plan, saved }: JobRequest): void {
  if (!asked || (plan === undefined && saved === undefined)) return;
  const other = plan === undefined ? '--resume goes on with its kernels' : '--plan names them';
  throw new LantrainError('LT_USAGE_OPTION', `--tune chooses kernels, and ${other}; leave one of the two out`);
}

async function tunedPlan(
  { tune: asked, onNote }: JobRequest,
  gpu: Gpu,
  model: ModelConfig,
  shape: BatchShape,
  plan: Plan,
): Promise<Plan> {
  // Kernels are timed on float32: what they say of float16 is not known.
  if (shape.precision === 'f16') return plan;
  if (asked === false || (asked === undefined && !tunesByItself())) return plan;
  const onProgress = loadingBar('timing kernels, once on this adapter');
  const request = { gpu, shaders: loadShaders(), model, shape, plan, anyBits: asked === true, onProgress, onNote };
  return (await tune(request)).plan;
}

/**
 * The plan asked for, or the adapter's own. Throws LT_USAGE_OPTION where a file holds none, LT_RUN_MISMATCH where this
 * adapter cannot run it.
 */
export function resolvePlan({ plan, saved }: Pick<JobRequest, 'plan' | 'saved'>, gpu: Gpu): Plan {
  const own = defaultPlan(gpu.adapter);
  let chosen = plan === 'auto' ? own : (saved?.plan ?? own);
  if (plan !== undefined && plan !== 'auto') {
    let json: unknown;
    try {
      json = JSON.parse(readRegular(plan).toString('utf8'));
    } catch (cause) {
      const why = cause instanceof SyntaxError ? 'this is not JSON' : reason(cause);
      throw new LantrainError(
        'LT_USAGE_OPTION',
        `--plan ${plan}: ${why}; ${pasteable(['doctor', '--tune', '--plan-out', plan])} writes one`,
        {
          cause,
        },
      );
    }
    // A run's config.json has its plan inside.
    const inside = (json as { plan?: unknown } | null)?.plan;
    const parsed = validate(PlanSchema, inside ?? json);
    if (!parsed.ok) throw new LantrainError('LT_USAGE_OPTION', `--plan ${plan}: ${parsed.wrong}`);
    chosen = parsed.data;
  }
  const missing = missingFor(chosen, gpu.adapter);
  if (missing !== undefined)
    throw new LantrainError(
      'LT_RUN_MISMATCH',
      `the plan needs ${missing}, which ${adapterTitle(gpu.adapter)} has not; --plan auto takes this adapter's own plan, whose bits differ`,
    );
  return chosen;
}

/** Throws LT_USAGE_OPTION where float16 is asked for and cannot be had. */
export function checkPrecision(gpu: Gpu, { precision }: BatchShape, width: number): void {
  if (precision !== 'f16') return;
  if (!gpu.has('shader-f16'))
    throw new LantrainError(
      'LT_USAGE_OPTION',
      `--precision f16 needs the feature shader-f16, which ${adapterTitle(gpu.adapter)} has not; --precision f32 runs everywhere`,
    );
  if (width % 2 !== 0)
    throw new LantrainError('LT_USAGE_OPTION', `--precision f16 needs an even --width, not ${width}`);
}

/** Throws LT_GPU_MEMORY, with the option that would help, when the budget is more than the adapter has. */
function checkMemory(gpu: Gpu, model: ModelConfig, shape: BatchShape, plan: Plan, budget: MemoryBudget): void {
  const available = availableMemory(gpu.adapter);
  if (available === undefined || budget.totalBytes <= available) return;
  const total = (m: ModelConfig, s: BatchShape) => memoryBudget(m, s, plan).totalBytes;
  const single = { ...shape, stack: 1 };
  const smaller = (name: PresetName) => {
    const p: Partial<TrainOptions> = PRESETS[name];
    const m = { ...model, ...shapeOptionsOf({ ...BASE_OPTIONS, ...p }) };
    return total(m, { ...single, batch: 1, context: m.context }) <= available;
  };
  const fits = PRESET_NAMES.toReversed().find(smaller);
  let advice = fits ? `--preset ${fits} fits` : 'choose a smaller --width or --layers';
  if (total(model, single) <= available) advice = '--stack 1 fits, with the same bits';
  else if (total(model, { ...single, recompute: true }) <= available) advice = '--recompute fits, with the same bits';
  else if (total(model, { ...single, batch: 1 }) <= available) advice = '--micro-batch 1 fits';
  else if (total(model, { ...single, batch: 1, recompute: true }) <= available)
    advice = '--micro-batch 1 --recompute fits';
  else if (total({ ...model, context: 128 }, { ...single, batch: 1, context: 128 }) <= available)
    advice = '--micro-batch 1 --context 128 fits';
  throw new LantrainError(
    'LT_GPU_MEMORY',
    `the model needs ${formatBytes(budget.totalBytes)} on the adapter, and there is ${formatBytes(available)}; ${advice}`,
  );
}
