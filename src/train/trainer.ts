import type { Dataset, TokenSource } from '../data/dataset.js';
import type { Tokenizer } from '../data/tokenizer.js';
import { Windows } from '../data/windows.js';
import { deriveKey, Stream } from '../random.js';
import type { MetricsEvent } from '../report/metrics.js';
import { microBatches } from './batches.js';
import type { TrainingEngine } from './engine.js';
import { checkpointInterval } from './options.js';
import type { RunConfig } from './run-config.js';
import { sampleTokens } from './sample.js';
import { learningRateAt } from './schedule.js';

export interface SavedCheckpoint {
  readonly digest: string;
  readonly path: string;
}

/** What the loop hands out; the shell around it writes files and prints. */
export interface TrainerHooks {
  event(event: MetricsEvent): void | Promise<void>;
  /**
   * Takes the state after `step` updates, the loop's last ones if `final`: the loop goes on at once, and asks for the
   * next only after `written`, which says that the checkpoint is on disk.
   */
  checkpoint(step: number, final: boolean): Promise<{ readonly written: Promise<SavedCheckpoint> }>;
  /** True once the run should end after the step in hand. */
  stopping(): boolean;
  /** After each step but the last: waits while the run is paused; asked again after a checkpoint that it asks for. */
  between?(): Promise<'go' | 'checkpoint'>;
}

export interface TrainingEnd {
  readonly step: number;
  readonly digest: string;
  /** False when it was stopped before its last step. */
  readonly complete: boolean;
  readonly seconds: number;
}

/** The training loop: global batches, updates, evaluation, samples, checkpoints. Knows no files and no terminal. */
export class Trainer {
  readonly windows: Windows;
  readonly #validation: Windows | undefined;

  /** `tokenizer` is undefined where tokens have no text (a `.bin` file of another vocabulary): then no samples. */
  constructor(
    readonly engine: TrainingEngine,
    readonly config: RunConfig,
    readonly data: Dataset,
    readonly tokenizer: Tokenizer | undefined,
  ) {
    this.windows = trainingWindows(config, data);
    if (data.validation.length > 0)
      this.#validation = new Windows({ ...windowOptions(config, data.validation), part: 'validation' });
  }

  get tokensPerStep(): number {
    return this.config.options.batch * this.config.model.context;
  }

  /** Runs updates `from + 1` to the last. Throws LT_TRAIN_NONFINITE as `Engine.step` does. */
  async run(from: number, hooks: TrainerHooks): Promise<TrainingEnd> {
    const { options, totalSteps } = this.config;
    const started = performance.now();
    let stepStarted = started;
    const checkpoints = new Checkpoints(hooks, options.checkpointEvery);
    let step = from;
    try {
      while (step < totalSteps && !hooks.stopping()) {
        step++;
        const lr = this.#learningRate(step);
        const waitedBefore = this.engine.waitedMs ?? 0;
        const { loss, gradNorm } = await this.engine.step(this.#globalBatch(step), step, options.seed, lr);
        const now = performance.now();
        const waited = (this.engine.waitedMs ?? 0) - waitedBefore;
        const tokensPerSecond = this.tokensPerStep / ((now - stepStarted - waited) / 1000);
        await hooks.event({
          event: 'step',
          step,
          loss,
          tokens: this.tokensPerStep,
          tokensPerSecond,
          lr,
          gradNorm,
        });
        const last = step === totalSteps;
        if (options.evalEvery > 0 && ((step - 1) % options.evalEvery === 0 || last))
          await hooks.event(await this.#evaluate(step));
        if (this.#samplesAfter(step) || (last && options.sampleTokens > 0)) await this.#sample(step, hooks);
        if (!last) {
          await checkpoints.after(step);
          while ((await hooks.between?.()) === 'checkpoint') await checkpoints.now(step);
        }
        // Evaluation, samples and checkpoints do not count into the next step's speed.
        stepStarted = performance.now();
      }
      const digest = await checkpoints.finish(step);
      const seconds = (performance.now() - started) / 1000;
      return { step, digest, complete: step >= totalSteps, seconds };
    } catch (error) {
      // What is still on its way to the disk is what the run goes on from.
      await checkpoints.settled;
      throw error;
    }
  }

  #learningRate(step: number): number {
    const { options, totalSteps } = this.config;
    const { schedule, lr: learningRate, warmup: warmupSteps } = options;
    return learningRateAt({ schedule, learningRate, warmupSteps, totalSteps }, step);
  }

  #globalBatch(step: number) {
    const { options, model } = this.config;
    return microBatches(this.data.train, this.windows.startsOf(step - 1), model.context, options.microBatch);
  }

  /** Mean losses over the first batches of both parts, in order, without dropout. */
  async #evaluate(step: number): Promise<MetricsEvent> {
    const trainLoss = await this.#meanLoss(this.data.train, this.windows);
    const valLoss = this.#validation && (await this.#meanLoss(this.data.validation, this.#validation));
    return { event: 'eval', step, trainLoss, valLoss: valLoss ?? null, tokensSeen: step * this.tokensPerStep };
  }

  async #meanLoss(source: TokenSource, windows: Windows): Promise<number> {
    const { options, model } = this.config;
    const starts = windows.evaluationBatches(options.evalBatches).flat();
    const batches = microBatches(source, starts, model.context, options.microBatch);
    return this.engine.evaluate(batches, starts.length * model.context);
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
    for await (const token of sampleTokens(await this.engine.sampler(), prompt, sampling)) tokens.push(token);
    await hooks.event({ event: 'sample', step, text: this.tokenizer.decode(tokens) });
  }
}

/** When the loop saves its state. At most one checkpoint is on its way to the disk while steps go on. */
class Checkpoints {
  readonly #interval: ReturnType<typeof checkpointInterval>;
  #takenAt = performance.now();
  #step = -1;
  #digest = '';
  #writing: Promise<void> | undefined;
  #failure: { readonly error: unknown } | undefined;

  constructor(
    private readonly hooks: TrainerHooks,
    every: string,
  ) {
    this.#interval = checkpointInterval(every);
  }

  /** Resolves when nothing is on its way to the disk any more. */
  get settled(): Promise<void> {
    return this.#writing ?? Promise.resolve();
  }

  /**
   * Saves the state after `step` updates where it is due. A step that was asked for by number waits for the checkpoint
   * before it; by the clock, the next one is due once that is on disk. Throws what has failed since the last call.
   */
  async after(step: number): Promise<void> {
    this.#check();
    const { steps, milliseconds } = this.#interval;
    const dueByClock = milliseconds > 0 && performance.now() - this.#takenAt >= milliseconds;
    if ((steps > 0 && step % steps === 0) || (dueByClock && this.#writing === undefined)) await this.#save(step, false);
  }

  /** Saves the state after `step` updates, unless that is done. */
  async now(step: number): Promise<void> {
    if (this.#step !== step) await this.#save(step, false);
  }

  /** The digest of the state after the last step, once it is on disk. */
  async finish(step: number): Promise<string> {
    await this.settled;
    this.#check();
    if (this.#step !== step) await this.#save(step, true);
    await this.settled;
    this.#check();
    return this.#digest;
  }

  async #save(step: number, final: boolean): Promise<void> {
    await this.settled;
    this.#check();
    const { written } = await this.hooks.checkpoint(step, final);
    this.#takenAt = performance.now();
    this.#step = step;
    this.#writing = this.#tell(step, written);
  }

  async #tell(step: number, written: Promise<SavedCheckpoint>): Promise<void> {
    try {
      const { digest, path } = await written;
      this.#digest = digest;
      await this.hooks.event({ event: 'checkpoint', step, digest, path });
    } catch (error) {
      this.#failure = { error };
    }
    this.#writing = undefined;
  }

  #check(): void {
    if (this.#failure) throw this.#failure.error;
  }
}

function windowOptions(config: RunConfig, source: TokenSource) {
  const { batch, stride, shuffle, seed } = config.options;
  return { tokens: source.length, context: config.model.context, stride, batch, shuffle, seed };
}

/** The windows of the training part. Throws LT_DATA_SHORT when it is shorter than one batch needs. */
export function trainingWindows(config: RunConfig, data: Dataset): Windows {
  return new Windows({ ...windowOptions(config, data.train), part: 'training' });
}
