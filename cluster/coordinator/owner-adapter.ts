import { LantrainError } from '../../src/errors.js';
import type { KernelCache } from '../../src/gpu/kernel.js';
import { memoryBudget } from '../../src/model/activations.js';
import type { MicroBatch, StepContext } from '../../src/model/gpt.js';
import type { BatchShape } from '../../src/model/shape.js';
import { formatBytes } from '../../src/report/format.js';
import type { ClusterOwner } from '../exchange/owner.js';
import { decodeFrame, type Frame, type FrameContext } from '../protocol/frame.js';
import { microBatchSet } from '../round/sets.js';
import { contributionOf, namesOfWrong } from '../worker/compute.js';
import { Upload } from '../worker/upload.js';
import { GradientEngine, type ScaledBatch, type WorkerShape } from '../worker/worker-engine.js';

/** An assignment that the round has dealt to the owner. */
export interface OwnTask {
  readonly kind: 'step' | 'evaluate';
  readonly assignment: number;
  /** The step's number; for an evaluation, the version of the weights. */
  readonly step: number;
  /** Version of the weights that it is computed with. */
  readonly version: number;
  /** By micro-batch. */
  readonly batches: ReadonlyMap<number, MicroBatch>;
  /** Buckets that a step still lacks, the loss included; empty for an evaluation. */
  readonly buckets: readonly number[];
  /** Mixed precision only: log2 of the first loss scale to try. */
  readonly scaleExponent?: number;
}

/** What the adapter needs from the coordinator, and where its results go. Nothing is reported for a dropped task. */
export interface OwnTaskHost {
  /** Runs `work` while the weights stay at `version`; undefined if they have another version by then. */
  withWeights<T>(version: number, work: () => Promise<T>): Promise<T | undefined>;
  /** Resolves when the frame's bytes are free. */
  contributed(task: OwnTask, frame: Frame): Promise<void>;
  evaluated(task: OwnTask, losses: bigint): void;
  /** The results of these micro-batches are not finite, or overflow. */
  refused(task: OwnTask, microBatches: readonly number[], what: string): void;
  /** The adapter cannot compute, now or later; `reason` is one line. */
  unable(reason: string): void;
}

export interface OwnerAdapterOptions extends WorkerShape {
  readonly seed: number;
  readonly incarnation: number;
  readonly microBatches: number;
  readonly tokensPerStep: number;
  /** Bytes that the adapter can still allocate, if known. */
  readonly availableBytes?: () => number | undefined;
}

/**
 * The owner's own adapter as a worker. It computes assignments dealt to `OWNER` with the workers' code, on the owner's
 * weights. Its frames are byte for byte those of a worker. It does one task at a time, in the order of dealing. The
 * graph is built when it is first needed.
 */
export class OwnerAdapter {
  #engine: Promise<GradientEngine> | undefined;
  readonly #live = new Map<number, OwnTask>();
  #tasks: Promise<void> = Promise.resolve();
  #hasBegun = false;
  #isUnable = false;

  constructor(
    private readonly kernels: KernelCache,
    private readonly owner: Pick<ClusterOwner, 'state' | 'gridChecks'>,
    private readonly options: OwnerAdapterOptions,
    private readonly host: OwnTaskHost,
  ) {}

  /** The current or next assignment, for display. */
  get task(): OwnTask | undefined {
    return this.#live.values().next().value;
  }

  /** Builds the graph beforehand. A failure is reported by `unable`. Never rejects. */
  async prepare(onProgress?: (done: number, total: number) => void): Promise<void> {
    try {
      await this.#built(onProgress);
    } catch (error) {
      this.#fail(error);
    }
  }

  /** It has had at least one task. */
  get hasBegun(): boolean {
    return this.#hasBegun;
  }

  take(task: OwnTask): void {
    this.#hasBegun = true;
    if (this.#isUnable) return;
    this.#live.set(task.assignment, task);
    this.#tasks = this.#tasks.then(() => this.#compute(task)).catch((error) => this.#fail(error));
  }

  /** The assignment is not needed any more. */
  drop(assignment: number): void {
    this.#live.delete(assignment);
  }

  /** The job of its tasks is over. */
  dropAll(): void {
    this.#live.clear();
  }

  /** Resolves when no graph is being built. Never rejects. */
  async settled(): Promise<void> {
    await this.#engine?.catch(() => undefined);
  }

  #fail(error: unknown): void {
    if (this.#isUnable) return;
    this.#isUnable = true;
    this.#live.clear();
    const text = error instanceof Error ? error.message : String(error);
    this.host.unable(text.split('\n')[0]);
  }

  #isLive(task: OwnTask): boolean {
    return this.#live.get(task.assignment) === task;
  }

  async #built(onProgress?: (done: number, total: number) => void): Promise<GradientEngine> {
    this.#engine ??= this.#build(onProgress);
    return this.#engine;
  }

  async #build(onProgress?: (done: number, total: number) => void): Promise<GradientEngine> {
    const { kernels, owner, options } = this;
    const { model, plan } = options;
    const shape = this.#fitting();
    const { weights, grid } = owner.state;
    return kernels.gpu.orFree(() => GradientEngine.over(kernels, weights, { model, shape, plan }, onProgress, grid));
  }

  /**
   * The shape of one micro-batch, with recomputation if memory is short. Throws LT_GPU_MEMORY if that does not fit
   * either.
   */
  #fitting(): BatchShape {
    const { model, plan, shape, availableBytes } = this.options;
    const available = availableBytes?.() ?? Number.POSITIVE_INFINITY;
    const sumBytes = 8 * this.owner.state.layout.allocatedValues;
    const needed = (one: BatchShape) => sumBytes + memoryBudget(model, one, plan).activationBytes;
    const shapes = [shape, { ...shape, recompute: true }].map((one) => ({ ...one, stack: 1 }));
    const fitting = shapes.find((one) => needed(one) <= available);
    if (fitting !== undefined) return fitting;
    throw new LantrainError(
      'LT_GPU_MEMORY',
      `computing here as well needs ${formatBytes(needed(shapes[1]))} on the adapter, and there is ${formatBytes(available)}`,
    );
  }

  async #compute(task: OwnTask): Promise<void> {
    if (!this.#isLive(task)) return;
    const engine = await this.#built();
    try {
      await (task.kind === 'step' ? this.#step(engine, task) : this.#evaluate(engine, task));
    } finally {
      engine.sums.clear(engine.gpu);
      this.drop(task.assignment);
    }
  }

  async #step(engine: GradientEngine, task: OwnTask): Promise<void> {
    const { seed, tokensPerStep, incarnation } = this.options;
    const { step, assignment, scaleExponent: first } = task;
    const context: StepContext = { seed, step, tokenWeight: 1 / tokensPerStep };
    const scaled: ScaledBatch[] = [];
    let halvings = 0;
    let lossFixed = 0n;
    for (const [microBatch, batch] of task.batches) {
      if (!this.#isLive(task)) return;
      const report = await this.host.withWeights(task.version, () => {
        engine.gpt.submitWeights();
        if (first === undefined) return engine.gradient(batch, context);
        return engine.gradientByScale(batch, context, first, scaled);
      });
      if (report === undefined || !this.#isLive(task)) return;
      if (report.nonFinite.length > 0) {
        this.host.refused(task, [microBatch], namesOfWrong(report));
        return;
      }
      lossFixed = report.lossFixed;
      if (first !== undefined) halvings += first - scaled[scaled.length - 1].exponent;
    }
    const checks = await this.owner.gridChecks();
    for (const [bucket, check] of checks?.entries() ?? []) engine.packer.setCheck(bucket, check);
    const microBatches = microBatchSet(task.batches.keys());
    const buckets = engine.packer.buckets.length + 1;
    const { microBatches: count } = this.options;
    const frames: FrameContext = { incarnation, buckets, microBatches: count, kinds: ['contribution'] };
    // A few at once, like a worker's upload, so that only a few are in memory.
    const upload = new Upload();
    upload.begin(async (bucket) => {
      if (!this.#isLive(task)) return;
      const header = { kind: 'contribution', incarnation, assignment, step, bucket, microBatches } as const;
      const message = await contributionOf(engine, header, { lossFixed, halvings });
      if (this.#isLive(task)) await this.host.contributed(task, decodeFrame(message, frames));
    });
    for (const bucket of task.buckets) upload.add(bucket);
    await upload.end();
  }

  async #evaluate(engine: GradientEngine, task: OwnTask): Promise<void> {
    let losses = 0n;
    const wrong: number[] = [];
    for (const [microBatch, batch] of task.batches) {
      if (!this.#isLive(task)) return;
      const report = await this.host.withWeights(task.version, () => {
        engine.gpt.submitWeights();
        return engine.losses([batch]);
      });
      if (report === undefined || !this.#isLive(task)) return;
      if (report.nonFinite.length > 0) wrong.push(microBatch);
      losses += report.lossFixed;
    }
    if (wrong.length > 0) this.host.refused(task, wrong, 'the loss');
    else this.host.evaluated(task, losses);
  }
}
