import type { Gpu } from '../gpu/device.js';
import type { KernelCache } from '../gpu/kernel.js';
import { DispatchList } from '../gpu/list.js';
import type { View } from '../gpu/view.js';
import { deriveKey, Stream } from '../util/random.js';
import { areConsecutive, asList, joined, type MicroBatch, type StepContext, tokenLists } from './batch.js';
import { Buffers, trainingBuffers } from './buffers.js';
import type { ModelConfig } from './config.js';
import { dropoutKeys, keysBytes } from './dropout.js';
import { Graph, launchInto } from './graph.js';
import type { ParameterArena } from './layout.js';
import { OperandWeights } from './operand-weights.js';
import type { Plan } from './plan.js';
import { trainingScratch } from './products.js';
import type { BatchShape } from './shape.js';
import { addGradient, addLoss } from './spine.js';
import type { ExactSums } from './sums.js';

export { IGNORED_TARGET, type MicroBatch, type StepContext } from './batch.js';

/** Forward and backward of `stack` micro-batches at once, whose gradients add to the sums or overwrite them. */
export interface GradientKind {
  readonly stack: number;
  readonly accumulate: boolean;
}

/** The lists for stacks of one size. */
interface Lists {
  /** Runs forward and backward and adds every parameter's gradient, rounded to fixed point, to the sums. */
  readonly accumulate: DispatchList;
  /** Like `accumulate`, but overwrites the sums (`GraphParts.accumulate`). */
  readonly overwrite: DispatchList;
  /** Runs forward without dropout and adds the losses only. */
  readonly loss: DispatchList;
}

/** The GPU memory of a graph besides weights and sums. */
interface Owned {
  readonly buffers: Buffers<'training'>;
  /** Uniforms: the dropout keys of all sites, and the factor of each token's loss. */
  readonly keys: View;
  readonly scale: View;
  /** The copies of the weights that products read; none in float32. */
  readonly operands: OperandWeights | undefined;
  /** In mixed precision: a uniform of 1 / loss scale. */
  readonly unit: View | undefined;
  /** In the low wire: the uniform Rounding of shaders/rounding_low.wgsl. */
  readonly rounding: View | undefined;
}

/**
 * The training graph: the spine (`spine.ts`) as static lists of dispatches over one set of buffers. There are lists for
 * single micro-batches and for stacks of `BatchShape.stack`.
 */
export class Gpt {
  readonly #lists = new Map<number, Lists>();

  private constructor(
    readonly gpu: Gpu,
    readonly config: ModelConfig,
    readonly shape: BatchShape,
    readonly plan: Plan,
    readonly weights: ParameterArena,
    readonly sums: ExactSums,
    private readonly owned: Owned,
  ) {}

  /** Allocates the buffers and compiles every pipeline. Throws LT_GPU_MEMORY, LT_GPU_SHADER. */
  static async build(
    kernels: KernelCache,
    shape: BatchShape,
    plan: Plan,
    weights: ParameterArena,
    sums: ExactSums,
  ): Promise<Gpt> {
    const { gpu } = kernels;
    const { config } = weights.layout;
    const wanted = trainingBuffers(config, shape, plan, trainingScratch(config, shape, plan));
    const buffers = await Buffers.allocate(gpu, wanted, plan.windowValues);
    const keys = await gpu.uniform('dropout keys', keysBytes(config));
    const scale = await gpu.uniform('token weight', 16);
    const operands = await OperandWeights.build(kernels, weights, shape.precision);
    const unit = shape.precision === 'f16' ? await gpu.uniform('gradient unit', 16) : undefined;
    const rounding = sums.grid ? await gpu.uniform('rounding', 16) : undefined;
    const owned = { buffers, keys, scale, operands, unit, rounding };
    const gpt = new Gpt(gpu, config, shape, plan, weights, sums, owned);
    for (const stack of new Set([1, gpt.stack])) gpt.#lists.set(stack, await gpt.#build(kernels, stack));
    return gpt;
  }

  async #build(kernels: KernelCache, stack: number): Promise<Lists> {
    const { plan, weights, sums } = this;
    const { buffers, keys, scale, operands, unit, rounding } = this.owned;
    const portable = this.shape.precision === 'portable';
    const views = { shape: { ...this.shape, stack }, buffers, keys, scale };
    const lists = { accumulate: new DispatchList(), overwrite: new DispatchList(), loss: new DispatchList() };
    const graph = (list: DispatchList, accumulate = true) =>
      new Graph(launchInto(list, plan, portable, buffers.scratch), {
        plan,
        weights,
        sums,
        operands,
        unit,
        rounding,
        accumulate,
      });
    addGradient(graph(lists.accumulate), views);
    addGradient(graph(lists.overwrite, false), views);
    addLoss(graph(lists.loss), views);
    for (const list of Object.values(lists)) await list.prepare(kernels);
    return lists;
  }

  /** The rows of one micro-batch. */
  get rows(): number {
    return this.shape.batch * this.shape.context;
  }

  /** Micro-batches that can be computed at once. */
  get stack(): number {
    return this.shape.stack ?? 1;
  }

  /**
   * The micro-batches to compute next, from index `from` of `batches` on: a whole stack if enough are left, their slots are
   * consecutive and all are `alike`; otherwise a single one.
   */
  stackFrom(
    batches: readonly MicroBatch[],
    from: number,
    alike: (index: number) => boolean = () => true,
  ): MicroBatch[] {
    const next = batches.slice(from, from + this.stack);
    const fits = areConsecutive(next, this.shape.batch) && next.every((_, i) => alike(from + i));
    return next.length === this.stack && fits ? next : next.slice(0, 1);
  }

  /** The list of this kind; by default for a single micro-batch whose gradients add to the sums. */
  gradientList({ stack, accumulate }: GradientKind = { stack: 1, accumulate: true }): DispatchList {
    const lists = this.#listsFor(stack);
    return accumulate ? lists.accumulate : lists.overwrite;
  }

  /** The list of the losses of `stack` micro-batches, without dropout. */
  lossList(stack: number): DispatchList {
    return this.#listsFor(stack).loss;
  }

  /** The list of the copies of the weights that products read; undefined in float32. */
  get operandList(): DispatchList | undefined {
    return this.owned.operands?.convert;
  }

  #listsFor(stack: number): Lists {
    const lists = this.#lists.get(stack);
    if (lists === undefined)
      throw new RangeError(`a stack of ${stack} micro-batches, by a graph for 1 or ${this.stack}`);
    return lists;
  }

  /** The buffer of a name (`buffers.ts`), of a layer where there may be one a layer. */
  get view(): Buffers<'training'>['view'] {
    return this.owned.buffers.view;
  }

  /** All buffers besides weights and sums, by name. */
  get buffers(): ReadonlyMap<string, View> {
    return this.owned.buffers.all;
  }

  /** Frees all buffers besides weights and sums. */
  release(): void {
    const { keys, scale, unit, rounding, operands } = this.owned;
    operands?.release(this.gpu);
    const uniforms = [keys, scale, unit, rounding].filter((view) => view !== undefined);
    for (const view of [...this.buffers.values(), ...uniforms]) this.gpu.release(view);
  }

  /** Queues the copies of the weights that products read. Call it after weights change and before anything reads them. */
  submitWeights(): void {
    this.owned.operands?.submit(this.gpu);
  }

  /**
   * Queues forward and backward of one micro-batch, or of a whole stack with consecutive slots. Their gradients
   * add to the sums, or overwrite them without `accumulate` (an untied token embedding's must be zero before).
   */
  submitGradient(batches: MicroBatch | readonly MicroBatch[], context: StepContext, accumulate = true): void {
    const all = asList(batches);
    this.loadGradient(all, context);
    this.gradientList({ stack: all.length, accumulate }).submit(this.gpu);
  }

  /** Queues the inputs of a gradient list. The list itself can then be submitted in parts. */
  loadGradient(batches: MicroBatch | readonly MicroBatch[], context: StepContext): void {
    const all = asList(batches);
    const tokens = this.#load(all);
    const { keys, scale, unit, rounding } = this.owned;
    const { batch, dropout } = this.shape;
    if (!areConsecutive(all, batch)) throw new RangeError('the slots of stacked micro-batches must follow one another');
    this.gpu.write(this.view('lists'), tokenLists(tokens));
    const { tokenWeight, scaleExponent = 0 } = context;
    this.gpu.write(scale, Float32Array.of(tokenWeight * 2 ** scaleExponent));
    if (unit) this.gpu.write(unit, Float32Array.of(2 ** -scaleExponent));
    if (rounding) {
      const key = deriveKey(context.seed, Stream.rounding, context.step);
      this.gpu.write(rounding, Uint32Array.of(...key, all[0].firstSlot, batch));
    }
    if (dropout > 0) this.gpu.write(keys, dropoutKeys(this.config, dropout, all[0].firstSlot, context));
  }

  /** Queues the forward pass of one micro-batch or a whole stack, without dropout, which adds the losses to the sum. */
  submitLoss(batches: MicroBatch | readonly MicroBatch[]): void {
    const all = asList(batches);
    this.#load(all);
    this.#listsFor(all.length).loss.submit(this.gpu);
  }

  /** Queues tokens and targets; returns all tokens. */
  #load(batches: readonly MicroBatch[]): Uint32Array {
    this.#listsFor(batches.length);
    for (const { tokens, targets } of batches)
      if (tokens.length !== this.rows || targets.length !== this.rows)
        throw new RangeError(`a micro-batch of ${tokens.length} tokens for a graph of ${this.rows}`);
    const tokens = joined(batches.map((batch) => batch.tokens));
    this.gpu.write(this.view('tokens'), tokens);
    this.gpu.write(this.view('targets'), joined(batches.map((batch) => batch.targets)));
    return tokens;
  }
}
