import type { Gpu } from '../gpu/device.js';
import type { KernelCache } from '../gpu/kernel.js';
import { type Dispatch, DispatchList } from '../gpu/list.js';
import { slice, type View } from '../gpu/view.js';
import { portably } from '../model/arithmetic.js';
import { BUCKET_VALUES, ParameterArena, type ParameterLayout, sparsePieces } from '../model/layout.js';
import type { Parameter } from '../model/parameters.js';
import { hostMath } from '../model/precision.js';
import { type ExactSums, normChunksOf } from '../model/sums.js';

export interface AdamWSettings {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly weightDecay: number;
  /** `all` decays every parameter, as torch.optim.AdamW does by default; `matrices` does not decay biases and gains. */
  readonly decay: 'all' | 'matrices';
}

/** Values that share one decay bit. */
const DECAY_BLOCK = 64;

/** The low and high words of the exact sums of consecutive gradients. */
export interface Gradients {
  readonly low: View;
  readonly high: View;
}

/** A range of the flat parameter array, within one slab: a bucket, or as many values as one binding holds. */
export interface FlatRange {
  readonly slab: number;
  readonly offset: number;
  readonly size: number;
}

/**
 * Weights, moments (m, v) and the one rule that changes them. `Optimizer` has all gradients on this device; the owner of a
 * cluster (`owner.ts`) gets them bucket by bucket. Both use the dispatches made here.
 */
export class TrainingState {
  private constructor(
    readonly gpu: Gpu,
    readonly settings: AdamWSettings,
    readonly weights: ParameterArena,
    readonly m: ParameterArena,
    readonly v: ParameterArena,
    private readonly decayBits: readonly View[],
    private readonly uniform: View,
    readonly portable: boolean,
    /** The weights that AdamW updates, in the low wire. */
    readonly master: ParameterArena | undefined = undefined,
  ) {}

  /** Called when the weights after step `version` are in place; `fresh`: they were not restored from a checkpoint. */
  start(_version: number, _fresh: boolean): void | Promise<void> {}

  /** `portable`: updates in portable arithmetic (shaders/portable.wgsl). */
  static async allocate(
    gpu: Gpu,
    layout: ParameterLayout,
    settings: AdamWSettings,
    portable = false,
  ): Promise<TrainingState> {
    const weights = await ParameterArena.allocate(gpu, layout, 'weights');
    const m = await ParameterArena.allocate(gpu, layout, 'm');
    const v = await ParameterArena.allocate(gpu, layout, 'v');
    const decayBits: View[] = [];
    for (const slab of layout.slabSizes.keys()) {
      const bits = decayBitsOf(layout, slab, settings.decay);
      const view = await gpu.buffer(`decay.${slab}`, bits.length);
      gpu.write(view, bits);
      decayBits.push(view);
    }
    const uniform = await gpu.uniform('adamw', 48);
    return new TrainingState(gpu, settings, weights, m, v, decayBits, uniform, portable);
  }

  get layout(): ParameterLayout {
    return this.weights.layout;
  }

  /**
   * The dispatch that updates the moments of a range and `weights`, which hold the range's old weights, in place. It sets
   * `squares` to the sums of the gradients' squares, one a chunk. With `clears` it also sets `sums` to zero.
   */
  update({ slab, offset, size }: FlatRange, sums: Gradients, weights: View, squares: View, clears: boolean): Dispatch {
    const { constants, groups } = chunkWork(this.gpu, size);
    const dispatch: Dispatch = {
      shader: 'adamw',
      entry: 'update',
      constants: { ...constants, CLEAR: clears },
      groups,
      bindings: {
        weights,
        m: this.m.range(slab, offset, size),
        v: this.v.range(slab, offset, size),
        low: sums.low,
        high: sums.high,
        decayBits: slice(this.decayBits[slab], offset / DECAY_BLOCK / 32, Math.ceil(size / DECAY_BLOCK / 32)),
        step: this.uniform,
        squares,
      },
      bytes: (clears ? 40 : 32) * size,
    };
    return this.portable ? portably(dispatch) : dispatch;
  }

  /** Frees all buffers. */
  release(): void {
    const { weights, m, v, decayBits, uniform, gpu } = this;
    for (const view of [...weights.slabs, ...m.slabs, ...v.slabs, ...decayBits, uniform]) gpu.release(view);
  }

  /** Queues the numbers that all updates of step `step` (1 is the first) share, computed in float64. */
  writeStep(step: number, learningRate: number, clipScale: number): void {
    const { beta1, beta2, epsilon, weightDecay } = this.settings;
    const { power } = hostMath(this.portable ? 'portable' : 'f32');
    this.gpu.write(
      this.uniform,
      Float32Array.of(
        clipScale,
        1 - learningRate * weightDecay,
        beta2,
        1 - beta1,
        1 - beta2,
        learningRate / (1 - power(beta1, step)),
        1 / Math.sqrt(1 - power(beta2, step)),
        epsilon,
      ),
    );
  }
}

/** Threads that share a chunk: CHUNK_LANES of shaders/squares.wgsl on software adapters, more on a GPU. */
const NORM_CHUNK_LANES = 8;
const GPU_CHUNK_THREADS = 128;

/** Threads and workgroups of a kernel that walks along chunks. No bit depends on them. */
function chunkWork({ adapter }: Gpu, size: number): Pick<Dispatch, 'constants' | 'groups'> {
  const CHUNK_THREADS = adapter.software ? NORM_CHUNK_LANES : GPU_CHUNK_THREADS;
  return { constants: { CHUNK_THREADS }, groups: [normChunksOf(size)] };
}

/** The squares of `size` gradients, one sum a chunk. */
export function normDispatch(gpu: Gpu, size: number, sums: Gradients, squares: View, portable = false): Dispatch {
  const dispatch: Dispatch = {
    shader: 'gradient_norm',
    entry: 'chunkSquares',
    ...chunkWork(gpu, size),
    bindings: { low: sums.low, high: sums.high, squares },
    bytes: 8 * size,
  };
  return portable ? portably(dispatch) : dispatch;
}

/**
 * The training state with all gradients on this device: the whole update is two static lists.
 */
export class Optimizer {
  readonly #norm = new DispatchList();
  readonly #update = new DispatchList();

  private constructor(readonly state: TrainingState) {}

  static async build(
    kernels: KernelCache,
    layout: ParameterLayout,
    sums: ExactSums,
    settings: AdamWSettings,
    portable = false,
  ): Promise<Optimizer> {
    const optimizer = new Optimizer(await TrainingState.allocate(kernels.gpu, layout, settings, portable));
    optimizer.#addUpdate(sums);
    optimizer.#addNorm(sums);
    await optimizer.#update.prepare(kernels);
    await optimizer.#norm.prepare(kernels);
    return optimizer;
  }

  get weights(): ParameterArena {
    return this.state.weights;
  }

  get m(): ParameterArena {
    return this.state.m;
  }

  get v(): ParameterArena {
    return this.state.v;
  }

  /**
   * Neighbouring buckets share a dispatch if both or neither clear, as far as a binding reaches: GPUs want many threads.
   */
  #addUpdate(sums: ExactSums): void {
    const { layout } = this.state;
    const sparse = sparsePieces(layout);
    const ranges: (FlatRange & { readonly clears: boolean })[] = [];
    for (const { slab, offset, size } of layout.buckets()) {
      const clears = sparse.some((p) => p.slab === slab && p.offset < offset + size && offset < p.offset + p.size);
      const last = ranges.at(-1);
      if (last?.slab === slab && last.clears === clears && last.size + size <= layout.limits.windowValues)
        ranges[ranges.length - 1] = { ...last, size: last.size + size };
      else ranges.push({ slab, offset, size, clears });
    }
    for (const range of ranges) {
      const { slab, offset, size, clears } = range;
      const of = (arena: ParameterArena) => arena.range(slab, offset, size);
      const gradients = { low: of(sums.low), high: of(sums.high) };
      const squares = sums.squares(slab, offset, size);
      this.#update.add(this.state.update(range, gradients, of(this.weights), squares, clears));
    }
  }

  #addNorm(sums: ExactSums): void {
    const { slabSizes, limits } = this.state.layout;
    slabSizes.forEach((used, slab) => {
      // One dispatch a binding. Bindings hold whole buckets, so chunks are the same under any limit.
      const most = Math.max(BUCKET_VALUES, limits.windowValues);
      for (let offset = 0; offset < used; offset += most) {
        const size = Math.min(most, used - offset);
        const of = (arena: ParameterArena) => arena.range(slab, offset, size);
        const gradients = { low: of(sums.low), high: of(sums.high) };
        const squares = sums.squares(slab, offset, size);
        this.#norm.add(normDispatch(this.state.gpu, size, gradients, squares, this.state.portable));
      }
    });
  }

  /** Queues the squares of all gradients into the sums' report, for clipping. Updates do the same. */
  submitNorm(): void {
    this.#norm.submit(this.state.gpu);
  }

  /**
   * Queues update number `step` (1 is the first) of all weights and moments. Sets the report's squares to those of the
   * gradients. Sets to zero the sums that the next step never overwrites (`sparsePieces`).
   */
  submitUpdate(step: number, learningRate: number, clipScale: number): void {
    this.state.writeStep(step, learningRate, clipScale);
    this.#update.submit(this.state.gpu);
  }

  /** The lists that a step runs after its gradients. */
  lists(clips: boolean): readonly DispatchList[] {
    return clips ? [this.#norm, this.#update] : [this.#update];
  }
}

/** The factor of all gradients, as in torch.nn.utils.clip_grad_norm_; 1 where `clip` is 0. */
export function clipScaleOf(clip: number, gradNorm: number): number {
  return clip > 0 ? Math.min(1, clip / (gradNorm + 1e-6)) : 1;
}

function decays(parameter: Parameter, decay: AdamWSettings['decay']): boolean {
  return decay === 'all' || parameter.kind === 'matrix' || parameter.kind === 'embedding';
}

/** One bit for each block of 64 values of a slab: whether weight decay applies to the block. */
function decayBitsOf(layout: ParameterLayout, slab: number, decay: AdamWSettings['decay']): Uint32Array {
  const blocks = layout.slabSizes[slab] / DECAY_BLOCK;
  const bits = new Uint32Array(Math.ceil(blocks / 32));
  for (const piece of layout.pieces) {
    if (piece.slab !== slab || !decays(piece.parameter, decay)) continue;
    const end = Math.ceil((piece.offset + piece.size) / DECAY_BLOCK);
    for (let block = piece.offset / DECAY_BLOCK; block < end; block++) bits[block >> 5] |= 1 << (block & 31);
  }
  return bits;
}
