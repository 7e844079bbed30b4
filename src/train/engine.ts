import { LantrainError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import { KernelCache, type ShaderTexts } from '../gpu/kernel.js';
import { DispatchList } from '../gpu/list.js';
import type { ModelConfig } from '../model/config.js';
import { Decoder } from '../model/decoder.js';
import { Gpt, type MicroBatch, type StepContext } from '../model/gpt.js';
import { freshTensor, type Initialization } from '../model/initialize.js';
import { ParameterLayout } from '../model/layout.js';
import type { Plan } from '../model/plan.js';
import type { BatchShape } from '../model/shape.js';
import { ExactSums, type StepReport } from '../model/sums.js';
import { FIRST_LOSS_SCALE, LEAST_EXPONENT, type LossScale, nextLossScale } from './loss-scale.js';
import { type AdamWSettings, clipScaleOf, Optimizer, type TrainingState } from './optimizer.js';
import { StateGate } from './state-gate.js';

export interface StepOutcome {
  /** Mean token loss of the global batch in nats, before the update. */
  readonly loss: number;
  readonly gradNorm: number;
  /** Low wire only: the expected squared error of rounding the gradient, over its squared norm. */
  readonly noise?: number;
}

export interface EngineOptions {
  readonly model: ModelConfig;
  readonly shape: BatchShape;
  readonly plan: Plan;
  readonly adamw: AdamWSettings;
  /** Largest norm of the gradient; 0 does not clip. */
  readonly clip: number;
  /** Micro-batches of a step, if known: then only the kernels that such a step needs are warmed up. */
  readonly microBatches?: number;
  /** Updates of the state that a run starts from. Default 0. */
  readonly version?: number;
  /** Called with the number of compiled kernels. */
  readonly onProgress?: (done: number, total: number) => void;
}

/** The training loop's view of the owner of the state: this process alone, or a cluster. */
export interface TrainingEngine {
  readonly gpu: Gpu;
  readonly layout: ParameterLayout;
  readonly state: TrainingState;
  readonly options: Pick<EngineOptions, 'shape'>;
  /** The loss scale of the next step; undefined in float32. A resumed run sets its own. */
  lossScale: LossScale | undefined;
  /** Updates of the state. */
  readonly version: number;
  step(batches: readonly MicroBatch[], step: number, seed: number, learningRate: number): Promise<StepOutcome>;
  evaluate(batches: readonly MicroBatch[], tokens: number): Promise<number>;
  sampler(): Promise<Decoder>;
  /**
   * Runs `read` while the state stays that of `version`. It may be called at any time, even in the middle of a step: the
   * step's update waits for `read`.
   */
  holdState<T>(read: () => Promise<T>): Promise<T>;
  /**
   * Abandons the current step or evaluation, which throws `why` (default `StepAbandoned`). A step whose update has begun is
   * finished instead. The state stays that of `version`. The engine computes nothing afterwards.
   */
  abandon(why?: Error): void;
}

/** Draws fresh weights; the moments stay zero. */
export function initializeWeights(
  { gpu, layout, state, options }: TrainingEngine,
  how: Initialization,
  seed: number,
): void {
  layout.parameters.forEach((parameter, i) => {
    state.weights.write(
      gpu,
      parameter.name,
      freshTensor(layout.config, parameter, i, how, seed, options.shape.precision),
    );
  });
}

/** The current step or evaluation was abandoned on request. */
export class StepAbandoned extends Error {
  constructor() {
    super('what was in hand was abandoned');
  }
}

/** Largest number of stacks of micro-batches that are queued on the adapter. */
const MOST_QUEUED_STACKS = 2;

/** Whether gradients are not finite although the losses are. Then a smaller loss scale may help. */
export function overflowed({ nonFinite }: StepReport): boolean {
  return nonFinite.length > 0 && nonFinite[0] !== 'loss';
}

export function nonFiniteError(step: number, what: string): LantrainError {
  return new LantrainError(
    'LT_TRAIN_NONFINITE',
    `step ${step}: ${what} is not finite (or 4096 and more); the state before this step is kept. ` +
      'Try a smaller --lr, --clip 1 or a longer --warmup',
  );
}

/**
 * One process that owns the state and computes its own gradients: it adds micro-batches to the exact sums, then takes one
 * update. A cluster splits the two: workers have `Gpt` and `ExactSums`, the owner has `TrainingState`.
 */
export class Engine implements TrainingEngine {
  lossScale: LossScale | undefined;
  readonly #gate = new StateGate();
  #version: number;
  #abandoned: Error | undefined;

  private constructor(
    readonly gpu: Gpu,
    readonly kernels: KernelCache,
    readonly layout: ParameterLayout,
    readonly options: EngineOptions,
    readonly sums: ExactSums,
    readonly optimizer: Optimizer,
    readonly gpt: Gpt,
    private decoder: Decoder | undefined,
  ) {
    if (options.shape.precision === 'f16') this.lossScale = FIRST_LOSS_SCALE;
    this.#version = options.version ?? 0;
  }

  static async create(gpu: Gpu, shaders: ShaderTexts, options: EngineOptions): Promise<Engine> {
    const kernels = new KernelCache(gpu, shaders);
    const layout = new ParameterLayout(options.model, options.plan);
    const sums = await ExactSums.allocate(gpu, layout);
    const portable = options.shape.precision === 'portable';
    const optimizer = await Optimizer.build(kernels, layout, sums, options.adamw, portable);
    const { shape, plan, microBatches, onProgress } = options;
    const gpt = await Gpt.build(kernels, shape, plan, optimizer.weights, sums);
    const { stack } = gpt;
    const kinds = microBatches === stack ? [false] : [false, true];
    const used = kinds.map((accumulate) => gpt.gradientList({ stack, accumulate }));
    await DispatchList.warmUp(gpu, used, onProgress);
    sums.clear(gpu);
    return new Engine(gpu, kernels, layout, options, sums, optimizer, gpt, undefined);
  }

  /** Frees all buffers. The engine must not be used any more. */
  release(): void {
    this.optimizer.state.release();
    this.sums.release(this.gpu);
    this.gpt.release();
    this.decoder?.release();
  }

  get state(): TrainingState {
    return this.optimizer.state;
  }

  get version(): number {
    return this.#version;
  }

  holdState<T>(read: () => Promise<T>): Promise<T> {
    return this.#gate.read(read);
  }

  abandon(why: Error = new StepAbandoned()): void {
    this.#abandoned ??= why;
  }

  /** The lists that `step` runs for the gradients of `microBatches` with consecutive slots. */
  gradientLists(microBatches: number): readonly DispatchList[] {
    const { stack } = this.gpt;
    const sizes = Array.from({ length: Math.floor(microBatches / stack) }, () => stack);
    const rest = Array.from({ length: microBatches % stack }, () => 1);
    return [...sizes, ...rest].map((size, i) => this.gpt.gradientList({ stack: size, accumulate: i > 0 }));
  }

  /** The lists that `step` runs after the gradients of all micro-batches. */
  get updateLists(): readonly DispatchList[] {
    return this.optimizer.lists(this.options.clip > 0);
  }

  /**
   * Takes update number `step` (1 is the first) from the micro-batches of one global batch, in any order. Throws
   * LT_TRAIN_NONFINITE, before anything of the state has changed, when a loss or a gradient is NaN, infinite or too large for
   * fixed point.
   */
  async step(
    globalBatch: readonly MicroBatch[],
    step: number,
    seed: number,
    learningRate: number,
  ): Promise<StepOutcome> {
    const batches = globalBatch.toSorted((a, b) => a.firstSlot - b.firstSlot);
    const tokens = batches.reduce((n, b) => n + b.tokens.length, 0);
    const context: StepContext = { seed, step, tokenWeight: 1 / tokens };
    this.gpt.submitWeights();
    const { lossScale } = this;
    let exponents = batches.map(() => lossScale?.exponent ?? 0);
    let report = await this.#gradients(batches, context, exponents);
    if (lossScale && overflowed(report)) {
      exponents = await this.#findExponents(batches, context, lossScale.exponent);
      report = await this.#gradients(batches, context, exponents);
    }
    if (report.nonFinite.length > 0) {
      this.sums.clear(this.gpu);
      const shown = report.nonFinite.slice(0, 3).join(', ');
      const what = report.nonFinite[0] === 'loss' ? 'the loss' : `the gradient of ${shown}`;
      throw nonFiniteError(step, what);
    }
    const { clip } = this.options;
    await this.#gate.update(() => {
      this.#checkAbandoned();
      if (lossScale) {
        const halvings = exponents.reduce((n, exponent) => n + lossScale.exponent - exponent, 0);
        this.lossScale = nextLossScale(lossScale, halvings, batches.length);
      }
      this.optimizer.submitUpdate(step, learningRate, clipScaleOf(clip, Math.sqrt(report.squares)));
      this.#version = step;
    });
    // Without clipping the norm is not needed before the update, which computes it from the gradients that it reads.
    const { squares } = clip > 0 ? report : await this.sums.readReport();
    return { loss: report.lossSum / tokens, gradNorm: Math.sqrt(squares) };
  }

  /** Sets the sums to those of these micro-batches, each computed with its own loss scale. Returns the report. */
  async #gradients(
    batches: readonly MicroBatch[],
    context: StepContext,
    exponents: readonly number[],
  ): Promise<StepReport> {
    const alike = (i: number) => (j: number) => exponents[j] === exponents[i];
    await this.#submitStacks(batches, alike, (stack, i) =>
      this.gpt.submitGradient(stack, { ...context, scaleExponent: exponents[i] }, i > 0),
    );
    if (this.options.clip > 0) this.optimizer.submitNorm();
    return this.sums.takeReport(this.gpu);
  }

  /**
   * Submits micro-batches in stacks of those that are `alike`; `submit` gets a stack and the index of its first. At most two
   * stacks are queued. Two keep the adapter busy, and a reader of the state never waits for more than two.
   */
  async #submitStacks(
    batches: readonly MicroBatch[],
    alike: ((i: number) => (j: number) => boolean) | undefined,
    submit: (stack: readonly MicroBatch[], i: number) => void,
  ): Promise<void> {
    const queued: Promise<void>[] = [];
    for (let i = 0; i < batches.length; ) {
      const stack = this.gpt.stackFrom(batches, i, alike?.(i));
      if (queued.length === MOST_QUEUED_STACKS) await queued.shift();
      this.#checkAbandoned();
      submit(stack, i);
      i += stack.length;
      if (i >= batches.length) break;
      const done = this.gpu.done();
      // A failure here is not lost: reading the report throws it as well.
      done.catch(() => undefined);
      queued.push(done);
    }
  }

  #checkAbandoned(): void {
    if (this.#abandoned) throw this.#abandoned;
  }

  /** For each micro-batch the largest exponent, at most `first`, with which nothing overflows. Leaves the sums zero. */
  async #findExponents(batches: readonly MicroBatch[], context: StepContext, first: number): Promise<number[]> {
    const exponents: number[] = [];
    for (const batch of batches) {
      let exponent = first + 1;
      let report: StepReport;
      do {
        this.#checkAbandoned();
        exponent--;
        this.sums.clear(this.gpu);
        this.gpt.submitGradient(batch, { ...context, scaleExponent: exponent });
        report = await this.sums.takeReport(this.gpu);
      } while (overflowed(report) && exponent > LEAST_EXPONENT);
      exponents.push(exponent);
    }
    this.sums.clear(this.gpu);
    return exponents;
  }

  /** The mean of the losses over `tokens`, without dropout; NaN where one is not finite. Ignored targets have no loss. */
  async evaluate(batches: readonly MicroBatch[], tokens: number): Promise<number> {
    this.gpt.submitWeights();
    await this.#submitStacks(batches, undefined, (stack) => this.gpt.submitLoss(stack));
    const report = await this.sums.takeReport(this.gpu);
    this.#checkAbandoned();
    return report.nonFinite.length > 0 ? Number.NaN : report.lossSum / tokens;
  }

  /** The sampling graph, built on first use. */
  async sampler(): Promise<Decoder> {
    this.decoder ??= await Decoder.build(
      this.kernels,
      this.options.plan,
      this.optimizer.weights,
      this.options.shape.precision,
    );
    return this.decoder;
  }
}
