import type { Gpu } from '../../src/gpu/device.js';
import { KernelCache, type ShaderTexts } from '../../src/gpu/kernel.js';
import { DispatchList } from '../../src/gpu/list.js';
import type { ModelConfig } from '../../src/model/config.js';
import { Gpt, type MicroBatch, type StepContext } from '../../src/model/gpt.js';
import { GridArena } from '../../src/model/grid.js';
import { ParameterArena, ParameterLayout } from '../../src/model/layout.js';
import type { Plan } from '../../src/model/plan.js';
import type { BatchShape } from '../../src/model/shape.js';
import { ExactSums, type StepReport } from '../../src/model/sums.js';
import { overflowed } from '../../src/train/engine.js';
import { LEAST_EXPONENT } from '../../src/train/loss-scale.js';
import { SumPacker, WeightChecks, WeightFollower } from '../exchange/packing.js';

export interface WorkerShape {
  readonly model: ModelConfig;
  readonly shape: BatchShape;
  readonly plan: Plan;
}

/** After the first `dispatches` dispatches of the gradient's list, the sums of these buckets are final. */
export interface GradientSegment {
  readonly buckets: readonly number[];
  readonly dispatches: number;
}

/** A micro-batch and the exponent of the loss scale at which its gradients are finite. */
export interface ScaledBatch {
  readonly batch: MicroBatch;
  readonly exponent: number;
}

/** Segments that are queued ahead of the one that is computed. */
const SEGMENTS_AHEAD = 1;

function segmentsOf(finals: readonly { readonly bucket: number; readonly dispatches: number }[]): GradientSegment[] {
  const segments = new Map<number, number[]>();
  for (const { bucket, dispatches } of finals) segments.set(dispatches, [...(segments.get(dispatches) ?? []), bucket]);
  return [...segments].map(([dispatches, buckets]) => ({ buckets, dispatches }));
}

/** Computes contributions with given weights: a worker's copy, or the owner's own. */
export class GradientEngine {
  /** The next gradient overwrites the sums. */
  #overwrites = false;

  protected constructor(
    readonly weights: ParameterArena,
    readonly sums: ExactSums,
    readonly gpt: Gpt,
    readonly packer: SumPacker,
    /** By the gradient's list. */
    readonly segments: ReadonlyMap<DispatchList, readonly GradientSegment[]>,
  ) {}

  /**
   * Builds an engine on existing weights, which it does not write, and in the low wire on their `grid`. Throws LT_GPU_MEMORY.
   */
  static async over(
    kernels: KernelCache,
    weights: ParameterArena,
    { shape, plan }: WorkerShape,
    onProgress?: (done: number, total: number) => void,
    grid?: GridArena,
  ): Promise<GradientEngine> {
    const { gpu } = kernels;
    const sums = await ExactSums.allocate(gpu, weights.layout, grid);
    const gpt = await Gpt.build(kernels, shape, plan, weights, sums);
    const packer = await SumPacker.build(kernels, sums);
    const sizes = [...new Set([1, gpt.stack])];
    const lists = sizes.flatMap((stack) => [true, false].map((accumulate) => gpt.gradientList({ stack, accumulate })));
    await DispatchList.warmUp(gpu, lists, onProgress);
    sums.clear(gpu);
    const segments = new Map(lists.map((list) => [list, segmentsOf(packer.finals(list))]));
    return new GradientEngine(weights, sums, gpt, packer, segments);
  }

  get gpu(): Gpu {
    return this.gpt.gpu;
  }

  get layout(): ParameterLayout {
    return this.weights.layout;
  }

  /**
   * Begins new sums, whatever was in them: the next gradient overwrites them, which saves writing and reading 8 bytes of
   * zeros a parameter.
   */
  beginSums(): void {
    this.sums.begin(this.gpu);
    this.#overwrites = true;
  }

  /** Whether the gradient that is queued now adds to the sums. */
  #accumulates(): boolean {
    const accumulate = !this.#overwrites;
    this.#overwrites = false;
    return accumulate;
  }

  #submit(batches: MicroBatch | readonly MicroBatch[], context: StepContext): void {
    this.gpt.submitGradient(batches, context, this.#accumulates());
  }

  /**
   * Queues one micro-batch, or a whole stack, and adds its gradients and losses to the sums. Resolves when the adapter
   * is done. The report covers everything since `beginSums`, or since the sums were last cleared.
   */
  gradient(batches: MicroBatch | readonly MicroBatch[], context: StepContext): Promise<StepReport> {
    this.#submit(batches, context);
    return this.sums.readReport();
  }

  /**
   * Like `gradient`, in mixed precision: uses the largest loss scale, from 2 ** `first` down, at which nothing
   * overflows. Appends the micro-batch to `done`. After an overflow the micro-batches in `done` are computed again,
   * because one gradient cannot be removed from a sum.
   */
  async gradientByScale(
    batch: MicroBatch,
    context: StepContext,
    first: number,
    done: ScaledBatch[],
  ): Promise<StepReport> {
    let exponent = first;
    let report = await this.gradient(batch, { ...context, scaleExponent: exponent });
    while (overflowed(report) && exponent > LEAST_EXPONENT) {
      exponent--;
      this.beginSums();
      for (const before of done) this.#submit(before.batch, { ...context, scaleExponent: before.exponent });
      report = await this.gradient(batch, { ...context, scaleExponent: exponent });
    }
    done.push({ batch, exponent });
    return report;
  }

  /**
   * Like `gradient`, and calls `onFinal` for each bucket as soon as its sums are final, while the rest still computes.
   * After the first value that is not finite or too large it calls it no more.
   */
  async gradientByBucket(
    batches: readonly MicroBatch[],
    context: StepContext,
    onFinal: (bucket: number) => void,
  ): Promise<StepReport> {
    this.gpt.loadGradient(batches, context);
    const stack = batches.length;
    const gradient = this.gpt.gradientList({ stack, accumulate: this.#accumulates() });
    const segments = this.segments.get(gradient) ?? [];
    const reports: Promise<StepReport>[] = [];
    let from = 0;
    let good = true;
    for (const { buckets, dispatches } of [...segments, { buckets: [], dispatches: gradient.length }]) {
      if (dispatches > from) gradient.submit(this.gpu, from, dispatches);
      from = dispatches;
      const report = this.sums.readReport().then((r) => {
        good &&= r.nonFinite.length === 0;
        if (good) for (const bucket of buckets) onFinal(bucket);
        return r;
      });
      reports.push(report);
      // Keeps the adapter busy, and lets a bucket be packed soon after it is final.
      if (reports.length > SEGMENTS_AHEAD) await reports[reports.length - 1 - SEGMENTS_AHEAD];
    }
    return (await Promise.all(reports))[reports.length - 1];
  }

  /**
   * Index of the micro-batch whose gradient or loss is not finite or too large: computes each alone, in new sums.
   */
  async wrongOf(batches: readonly MicroBatch[], context: StepContext): Promise<number> {
    let wrong = 0;
    for (const [i, batch] of batches.length > 1 ? batches.entries() : []) {
      this.beginSums();
      const report = await this.gradient(batch, context);
      wrong = i;
      if (report.nonFinite.length > 0) break;
    }
    return wrong;
  }

  /** The losses of one micro-batch, or of a whole stack, with the current weights and without dropout. */
  losses(batches: readonly MicroBatch[]): Promise<StepReport> {
    this.gpt.submitLoss(batches);
    return this.sums.takeReport(this.gpu);
  }
}

/** A worker's engine: a copy of the weights, the graph that computes with it, and the unpacking of received weights. */
export class WorkerEngine extends GradientEngine {
  private constructor(
    { weights, sums, gpt, packer, segments }: GradientEngine,
    readonly follower: WeightFollower,
    readonly checks: WeightChecks,
  ) {
    super(weights, sums, gpt, packer, segments);
  }

  static async create(
    gpu: Gpu,
    shaders: ShaderTexts,
    shape: WorkerShape,
    onProgress?: (done: number, total: number) => void,
  ): Promise<WorkerEngine> {
    const kernels = new KernelCache(gpu, shaders);
    const layout = new ParameterLayout(shape.model, shape.plan);
    const weights = await ParameterArena.allocate(gpu, layout, 'weights');
    const grid = shape.shape.wire === 'low' ? await GridArena.allocate(gpu, layout) : undefined;
    const made = await GradientEngine.over(kernels, weights, shape, onProgress, grid);
    const portable = shape.shape.precision === 'portable';
    const follower = await WeightFollower.build(kernels, weights, grid && { grid, portable });
    return new WorkerEngine(made, follower, await WeightChecks.build(kernels, weights));
  }
}
