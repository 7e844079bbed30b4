import type { Gpu } from '../src/gpu/device.js';
import { KernelCache, type ShaderTexts } from '../src/gpu/kernel.js';
import type { BatchShape } from '../src/model/activations.js';
import type { ModelConfig } from '../src/model/config.js';
import { Gpt, type MicroBatch, type StepContext } from '../src/model/gpt.js';
import { ParameterArena, ParameterLayout } from '../src/model/layout.js';
import type { Plan } from '../src/model/plan.js';
import { ExactSums, type StepReport } from '../src/model/sums.js';
import { SumPacker, WeightChecks, WeightFollower } from '../src/train/packing.js';

export interface WorkerShape {
  readonly model: ModelConfig;
  readonly shape: BatchShape;
  readonly plan: Plan;
}

/** What a worker holds on its adapter: a copy of the weights, the graph, exact sums, and the packing of both ways. */
export class WorkerEngine {
  private constructor(
    readonly gpu: Gpu,
    readonly layout: ParameterLayout,
    readonly weights: ParameterArena,
    readonly sums: ExactSums,
    readonly gpt: Gpt,
    readonly packer: SumPacker,
    readonly follower: WeightFollower,
    readonly checks: WeightChecks,
  ) {}

  static async create(
    gpu: Gpu,
    shaders: ShaderTexts,
    { model, shape, plan }: WorkerShape,
    onProgress?: (done: number, total: number) => void,
  ): Promise<WorkerEngine> {
    const kernels = new KernelCache(gpu, shaders);
    const layout = new ParameterLayout(model, plan);
    const weights = await ParameterArena.allocate(gpu, layout, 'weights');
    const sums = await ExactSums.allocate(gpu, layout);
    const gpt = await Gpt.build(kernels, shape, plan, weights, sums);
    const packer = await SumPacker.build(kernels, sums);
    const follower = await WeightFollower.build(kernels, weights);
    const checks = await WeightChecks.build(kernels, weights);
    await gpt.gradient.warmUp(gpu, onProgress);
    sums.clear(gpu);
    return new WorkerEngine(gpu, layout, weights, sums, gpt, packer, follower, checks);
  }

  /** Adds the gradients and the losses of one micro-batch to the sums; resolves when the adapter is done with it. */
  async gradient(batch: MicroBatch, context: StepContext): Promise<StepReport> {
    this.gpt.submitGradient(batch, context);
    return this.sums.takeReport(this.gpu);
  }

  /** The losses of micro-batches by the weights as they are, without dropout. */
  async losses(batches: readonly MicroBatch[]): Promise<StepReport> {
    for (const batch of batches) this.gpt.submitLoss(batch);
    return this.sums.takeReport(this.gpu);
  }
}
