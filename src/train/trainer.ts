import type { Dataset } from '../data/dataset.js';
import type { TokenSource } from '../data/token-source.js';
import type { Tokenizer } from '../data/tokenizer.js';
import { Windows } from '../data/windows.js';
import type { MetricsEvent } from '../report/metrics.js';
import { deriveKey, Stream } from '../util/random.js';
import { microBatches } from './batches.js';
import { type CheckpointHooks, CheckpointSchedule } from './checkpoint-schedule.js';
import { StepAbandoned, type TrainingEngine } from './engine.js';
import { EvaluationList } from './evaluation.js';
import type { RunClock } from './run-clock.js';
import type { RunConfig } from './run-config.js';
import { sampleTokens } from './sample.js';
import { learningRateAt } from './schedule.js';

/** What a run does now. */
export type Phase = 'training' | 'evaluating' | 'sampling' | 'saving';

/** The loop's outputs and controls. The code around the loop writes files and prints. */
export interface TrainerHooks extends CheckpointHooks {
  event(event: MetricsEvent): void | Promise<void>;
  /** Aborting it ends the run after the current step. */
  readonly stop: AbortSignal;
  /** Called when the run begins to do something else. */
  phase?(phase: Phase): void;
  /** Called after each step but the last; resolves when the run is not paused. */
  pause?(): Promise<void>;
  /** Measures speeds; `performance.now` if absent. */
  readonly clock?: RunClock;
  /** Whether the metrics already have an event of this kind for `step`. Asked only of the step that the run resumes from. */
  has?(kind: MetricsEvent['event'], step: number): boolean;
}

export interface TrainingEnd {
  readonly step: number;
  readonly digest: string;
  /** False when the run was stopped before its last step, or before the report on that step. */
  readonly complete: boolean;
  readonly seconds: number;
}

interface EvaluatedParts {
  readonly train: EvaluationList;
  readonly validation: EvaluationList | undefined;
}

/** The training loop: global batches, updates, evaluation, samples, checkpoints. Knows no files and no terminal. */
export class Trainer {
  readonly windows: Windows;
  /** Undefined where nothing is evaluated. */
  readonly #evaluated: EvaluatedParts | undefined;
  #checkpoints: CheckpointSchedule | undefined;
  #abandoned = false;

  /** `tokenizer` is undefined where tokens have no text (a `.bin` file of another vocabulary): then no samples. */
  constructor(
    readonly engine: TrainingEngine,
    readonly config: RunConfig,
    readonly data: Dataset,
    readonly tokenizer: Tokenizer | undefined,
  ) {
    this.windows = trainingWindows(config, data);
    const { evalEvery, evalBatches, microBatch } = config.options;
    const validation = validationWindows(config, data);
    if (evalEvery === 0) return;
    const list = (source: TokenSource, windows: Windows) =>
      new EvaluationList(source, windows, evalBatches, config.model.context, microBatch);
    this.#evaluated = {
      train: list(data.train, this.windows),
      validation: validation && list(data.validation, validation),
    };
  }

  get tokensPerStep(): number {
    return this.config.options.batch * this.config.model.context;
  }

  /**
   * Runs updates `from + 1` to the last, or until the run is stopped or abandoned. Throws what else ends it, such as
   * LT_TRAIN_NONFINITE of `Engine.step`, after it has saved the finished steps if possible.
   */
  async run(from: number, hooks: TrainerHooks): Promise<TrainingEnd> {
    const { options, totalSteps } = this.config;
    const now = hooks.clock?.now ?? (() => performance.now());
    const started = now();
    const checkpoints = new CheckpointSchedule(hooks, this.engine, options.checkpointEvery, from);
    this.#checkpoints = checkpoints;
    let step = from;
    let isCut = false;
    try {
      // A run that was stopped or killed in the middle of its reports now makes the missing ones.
      if (from > 0) await this.#report(from, hooks, (kind) => hooks.has?.(kind, from) ?? true);
      while (step < totalSteps && !hooks.stop.aborted) {
        // A step's speed does not include evaluation, samples and checkpoints.
        const stepStarted = now();
        const lr = this.#learningRate(step + 1);
        const outcome = await this.engine.step(this.#globalBatch(step + 1), step + 1, options.seed, lr);
        step++;
        const tokensPerSecond = this.tokensPerStep / ((now() - stepStarted) / 1000);
        const { loss, gradNorm, noise } = outcome;
        const measured = noise === undefined ? { gradNorm } : { gradNorm, noise };
        await hooks.event({ event: 'step', step, loss, tokens: this.tokensPerStep, tokensPerSecond, lr, ...measured });
        checkpoints.recorded(step);
        await this.#report(step, hooks);
        if (step === totalSteps) break;
        await checkpoints.after(step);
        await hooks.pause?.();
      }
    } catch (error) {
      if (!(error instanceof StepAbandoned)) {
        await checkpoints.rescue();
        throw error;
      }
      isCut = true;
    }
    try {
      hooks.phase?.('saving');
      const digest = await checkpoints.finish();
      // Without the report on its last step a run is not complete: `--resume` makes it up.
      return { step, digest, complete: step >= totalSteps && !isCut, seconds: (now() - started) / 1000 };
    } catch (error) {
      await checkpoints.rescue();
      throw error;
    }
  }

  /** Saves the state after the last finished step at once, even in the middle of the next one; resolves with that step. */
  async save(): Promise<number | undefined> {
    return this.#checkpoints?.now();
  }

  /** Whether the last finished step is in a checkpoint, or on its way there. */
  get isSaved(): boolean {
    return this.#checkpoints?.isDone ?? false;
  }

  /** Ends the run now, and abandons the current step or report. */
  abandon(): void {
    this.#abandoned = true;
    this.engine.abandon();
  }

  #checkAbandoned(): void {
    if (this.#abandoned) throw new StepAbandoned();
  }

  /** Makes the evaluation and the samples after `step` that are due and not in the metrics yet. */
  async #report(
    step: number,
    hooks: TrainerHooks,
    isThere: (kind: 'eval' | 'sample') => boolean = () => false,
  ): Promise<void> {
    const { evalEvery, sampleTokens } = this.config.options;
    const last = step === this.config.totalSteps;
    this.#checkAbandoned();
    const evaluated = (step - 1) % evalEvery === 0 || last ? this.#evaluated : undefined;
    const evaluates = evaluated !== undefined && !isThere('eval');
    const samples = (this.#samplesAfter(step) || (last && sampleTokens > 0)) && !isThere('sample');
    if (evaluates) {
      hooks.phase?.('evaluating');
      await hooks.event(await this.#evaluate(step, evaluated));
    }
    if (samples) {
      hooks.phase?.('sampling');
      await this.#sample(step, hooks);
    }
    if (evaluates || samples) hooks.phase?.('training');
  }

  #learningRate(step: number): number {
    const { options, totalSteps } = this.config;
    const { schedule, lr: learningRate, warmup: warmupSteps, precision } = options;
    return learningRateAt({ schedule, learningRate, warmupSteps, totalSteps, precision }, step);
  }

  #globalBatch(step: number) {
    const { options, model } = this.config;
    return microBatches(this.data.train, this.windows.startsOf(step - 1), model.context, options.microBatch);
  }

  /** Mean losses over the first batches of both parts, in order, without dropout. */
  async #evaluate(step: number, { train, validation }: EvaluatedParts): Promise<MetricsEvent> {
    const trainLoss = await this.engine.evaluate(train.batches(), train.tokens);
    const valLoss = validation && (await this.engine.evaluate(validation.batches(), validation.tokens));
    return { event: 'eval', step, trainLoss, valLoss: valLoss ?? null, tokensSeen: step * this.tokensPerStep };
  }

  #samplesAfter(step: number): boolean {
    const { sampleEvery, sampleTokens } = this.config.options;
    if (sampleTokens === 0) return false;
    return step % (sampleEvery > 0 ? sampleEvery : this.windows.stepsPerEpoch) === 0;
  }

  async #sample(step: number, hooks: TrainerHooks): Promise<void> {
    if (this.tokenizer === undefined) return;
    const { options } = this.config;
    const prompt = this.tokenizer.encode(options.prompt);
    const sampling = {
      count: options.sampleTokens,
      temperature: options.temperature,
      topK: options.topK,
      key: deriveKey(options.seed, Stream.sampling, step),
    };
    const tokens = [...prompt];
    for await (const token of sampleTokens(await this.engine.sampler(), prompt, sampling)) {
      this.#checkAbandoned();
      tokens.push(token);
    }
    await hooks.event({ event: 'sample', step, text: this.tokenizer.decode(tokens) });
  }
}

/** The part of a run's configuration that windows depend on. */
type WindowSettings = Pick<RunConfig, 'model' | 'options'>;

function windowOptions(config: WindowSettings, source: TokenSource) {
  const { batch, stride, shuffle, seed } = config.options;
  return { tokens: source.length, context: config.model.context, stride, batch, shuffle, seed };
}

/** The windows of the training part. Throws LT_DATA_SHORT when it is shorter than one batch needs. */
export function trainingWindows(config: WindowSettings, data: Dataset): Windows {
  return new Windows({ ...windowOptions(config, data.train), part: 'training' });
}

/**
 * The windows of the validation part; undefined where there is none, or nothing is evaluated. Throws LT_DATA_SHORT when it is
 * shorter than one window.
 */
export function validationWindows(config: WindowSettings, data: Dataset): Windows | undefined {
  if (config.options.evalEvery === 0 || data.validation.length === 0) return undefined;
  return new Windows({ ...windowOptions(config, data.validation), part: 'validation' });
}
