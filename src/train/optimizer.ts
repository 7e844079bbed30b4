import type { Gpu } from '../gpu/device.js';
import type { KernelCache } from '../gpu/kernel.js';
import { type Dispatch, DispatchList } from '../gpu/list.js';
import { slice, type View } from '../gpu/view.js';
import { portably } from '../model/arithmetic.js';
import { GRID_BLOCK, GRID_WORD, type GridArena, gridByte, gridWords, LEAST_GRID_EXPONENT } from '../model/grid.js';
import { BUCKET_VALUES, ParameterArena, type ParameterLayout, sparsePieces } from '../model/layout.js';
import type { Parameter } from '../model/parameters.js';
import { hostMath } from '../model/precision.js';
import { type ExactSums, normChunksOf } from '../model/sums.js';
import { powerOfTwo } from '../util/portable-math.js';
import { stepExponent } from './step-exponent.js';

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
  /** Undefined where they follow the low words, for the owner in the low wire. */
  readonly high?: View;
}

/** A range of the flat parameter array, within one slab: a bucket, or as many values as one binding holds. */
export interface FlatRange {
  readonly slab: number;
  readonly offset: number;
  readonly size: number;
}

/** What the low wire adds to the state. */
export interface LowWire {
  /** The grid of the next step's gradients. */
  readonly grid: GridArena;
  /** The number of micro-batches of a step. */
  readonly microBatches: number;
}

/** The part of the state that only the low wire has. */
interface LowState extends LowWire {
  /** What AdamW changes; `weights` follow it. */
  readonly master: ParameterArena;
  /** The uniform `gridFactor` of shaders/grid.wgsl, and the dispatches that compute the grid from v. */
  readonly gridFactor: View;
  readonly exponents: DispatchList;
}

/**
 * Weights, moments (m, v) and the one rule that changes them; in the low wire also the master weights, which AdamW changes and
 * the weights follow. `Optimizer` has all gradients on this device; the owner of a cluster (`owner.ts`) gets them bucket by
 * bucket. Both use the dispatches made here.
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
    private readonly low: LowState | undefined,
  ) {}

  /** `portable`: updates in portable arithmetic (shaders/portable.wgsl). */
  static async allocate(
    kernels: KernelCache,
    layout: ParameterLayout,
    settings: AdamWSettings,
    portable = false,
    wire?: LowWire,
  ): Promise<TrainingState> {
    const { gpu } = kernels;
    const weights = await ParameterArena.allocate(gpu, layout, 'weights');
    const m = await ParameterArena.allocate(gpu, layout, 'm');
    const v = await ParameterArena.allocate(gpu, layout, 'v');
    const decayBits: View[] = [];
    // In the low wire the grid has them.
    for (const slab of wire ? [] : layout.slabSizes.keys()) {
      const bits = decayBitsOf(layout, slab, settings.decay);
      const view = await gpu.buffer(`decay.${slab}`, bits.length);
      gpu.write(view, bits);
      decayBits.push(view);
    }
    const uniform = await gpu.uniform('adamw', 48);
    const low = wire && (await allocateLow(kernels, layout, v, wire, portable));
    return new TrainingState(gpu, settings, weights, m, v, decayBits, uniform, portable, low);
  }

  get layout(): ParameterLayout {
    return this.weights.layout;
  }

  /** The master weights of the low wire; undefined in the exact wire. */
  get master(): ParameterArena | undefined {
    return this.low?.master;
  }

  /** The grid of the next step's gradients in the low wire; undefined in the exact wire. */
  get grid(): GridArena | undefined {
    return this.low?.grid;
  }

  /**
   * The dispatch that updates the moments of a range and `weights`, which hold the range's old weights, in place. It sets
   * `squares` to the sums of the gradients' squares, one a chunk. With `clears` it also sets `sums` to zero. In the low wire it
   * changes the master weights and moves `weights` and the grid; with `moves` it leaves both as they are and puts there how
   * they change (shaders/update_low.wgsl).
   */
  update(range: FlatRange, sums: Gradients, weights: View, squares: View, clears: boolean, moves?: View): Dispatch {
    const { slab, offset, size } = range;
    const { constants, groups } = chunkWork(this.gpu, size);
    const of = (arena: { range(slab: number, offset: number, size: number): View }) => arena.range(slab, offset, size);
    const { low } = this;
    const dispatch: Dispatch = {
      shader: 'adamw',
      entry: 'update',
      constants: { ...constants, CLEAR: clears },
      defines: [...(low ? ['low'] : []), ...(moves ? ['owner'] : [])],
      groups,
      bindings: {
        weights,
        m: of(this.m),
        v: of(this.v),
        ...sumsOf(sums),
        ...(low
          ? { master: of(low.master), grid: of(low.grid), ...(moves && { moves }) }
          : { decayBits: slice(this.decayBits[slab], offset / DECAY_BLOCK / 32, Math.ceil(size / DECAY_BLOCK / 32)) }),
        step: this.uniform,
        squares,
      },
      bytes: (clears ? 40 : 32) * size + (low ? 8 * size : 0),
    };
    return this.portable ? portably(dispatch) : dispatch;
  }

  /** The dispatch that sets `squares` to the sums of the squares of a range's gradients, one a chunk. */
  norm(range: FlatRange, sums: Gradients, squares: View): Dispatch {
    const { slab, offset, size } = range;
    const { low } = this;
    const dispatch: Dispatch = {
      shader: 'gradient_norm',
      entry: 'chunkSquares',
      ...chunkWork(this.gpu, size),
      defines: [...(low ? ['low'] : []), ...(sums.high ? [] : ['owner'])],
      bindings: { ...sumsOf(sums), squares, ...(low && { grid: low.grid.range(slab, offset, size) }) },
      bytes: 8 * size,
    };
    return this.portable ? portably(dispatch) : dispatch;
  }

  /**
   * Queues what a state needs before its first step, after weights, and unless it is `fresh` the other parts, were written.
   * `version`: its updates. The low wire's master weights start as the weights, and its grid follows from v.
   */
  start(version: number, fresh: boolean): void {
    const { low, gpu } = this;
    if (low === undefined) return;
    if (fresh) {
      const encoder = gpu.device.createCommandEncoder();
      this.weights.slabs.forEach(({ buffer, size }, i) => {
        encoder.copyBufferToBuffer(buffer, 0, low.master.slabs[i].buffer, 0, size);
      });
      gpu.device.queue.submit([encoder.finish()]);
    }
    for (const [slab, view] of low.grid.slabs.entries())
      gpu.write(view, firstGrid(this.layout, slab, this.settings.decay));
    if (version === 0) return;
    gpu.write(low.gridFactor, Float32Array.of(this.#gridFactor(version)));
    low.exponents.submit(gpu);
  }

  /** The factor of sums of v that gives the grid after `version` updates (shaders/grid_exponent.wgsl). */
  #gridFactor(version: number): number {
    const { power } = hostMath(this.portable ? 'portable' : 'f32');
    const microBatches = this.low?.microBatches ?? 1;
    return 1 / (GRID_BLOCK * (1 - power(this.settings.beta2, version)) * microBatches);
  }

  /** Frees all buffers. */
  release(): void {
    const { weights, m, v, decayBits, uniform, low, gpu } = this;
    const ofLow = low ? [...low.master.slabs, ...low.grid.slabs, low.gridFactor] : [];
    for (const view of [...weights.slabs, ...m.slabs, ...v.slabs, ...decayBits, uniform, ...ofLow]) gpu.release(view);
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
        ...this.#lowNumbers(step, learningRate),
      ),
    );
  }

  /** The numbers of shaders/update_low.wgsl: the unit of moves and its inverse, the grid's factor, the noise's factor. */
  #lowNumbers(step: number, learningRate: number): number[] {
    if (this.low === undefined) return [];
    const exponent = stepExponent(learningRate);
    const units = exponent === undefined ? [0, 0] : [powerOfTwo(exponent), powerOfTwo(-exponent)];
    return [...units, this.#gridFactor(step), this.low.microBatches / 6];
  }
}

async function allocateLow(
  kernels: KernelCache,
  layout: ParameterLayout,
  v: ParameterArena,
  wire: LowWire,
  portable: boolean,
): Promise<LowState> {
  const { gpu } = kernels;
  const master = await ParameterArena.allocate(gpu, layout, 'master');
  const gridFactor = await gpu.uniform('grid factor', 16);
  const exponents = new DispatchList();
  layout.slabSizes.forEach((used, slab) => {
    for (const { offset, size } of bindable(used, layout)) {
      const grid = wire.grid.range(slab, offset, size);
      const dispatch: Dispatch = {
        shader: 'grid',
        entry: 'exponents',
        constants: {},
        bindings: { v: v.range(slab, offset, size), grid, gridFactor },
        groups: [Math.ceil(size / GRID_WORD / 64)],
        bytes: 4 * size,
      };
      exponents.add(portable ? portably(dispatch) : dispatch);
    }
  });
  await exponents.prepare(kernels);
  return { ...wire, master, gridFactor, exponents };
}

/** Ranges of a slab of `used` values that a binding holds: whole buckets, so chunks are the same under any limit. */
function bindable(used: number, { limits }: ParameterLayout): { readonly offset: number; readonly size: number }[] {
  const most = Math.max(BUCKET_VALUES, limits.windowValues);
  return Array.from({ length: Math.ceil(used / most) }, (_, i) => ({
    offset: i * most,
    size: Math.min(most, used - i * most),
  }));
}

/** The bindings of sums: two views, or one with the high words after the low ones. */
function sumsOf({ low, high }: Gradients): Record<string, View> {
  return high ? { low, high } : { low };
}

/** Threads that share a chunk: CHUNK_LANES of shaders/squares.wgsl on software adapters, more on a GPU. */
const NORM_CHUNK_LANES = 8;
const GPU_CHUNK_THREADS = 128;

/** Threads and workgroups of a kernel that walks along chunks. No bit depends on them. */
function chunkWork({ adapter }: Gpu, size: number): Pick<Dispatch, 'constants' | 'groups'> {
  const CHUNK_THREADS = adapter.software ? NORM_CHUNK_LANES : GPU_CHUNK_THREADS;
  return { constants: { CHUNK_THREADS }, groups: [normChunksOf(size)] };
}

/**
 * The training state with all gradients on this device: the whole update is two static lists.
 */
export class Optimizer {
  readonly #norm = new DispatchList();
  readonly #update = new DispatchList();

  private constructor(readonly state: TrainingState) {}

  /** `microBatches`: those of a step; needed in the low wire, whose grid is in `sums`. */
  static async build(
    kernels: KernelCache,
    layout: ParameterLayout,
    sums: ExactSums,
    settings: AdamWSettings,
    portable = false,
    microBatches = 1,
  ): Promise<Optimizer> {
    const wire = sums.grid && { grid: sums.grid, microBatches };
    const optimizer = new Optimizer(await TrainingState.allocate(kernels, layout, settings, portable, wire));
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
    const { layout } = this.state;
    layout.slabSizes.forEach((used, slab) => {
      for (const { offset, size } of bindable(used, layout)) {
        const of = (arena: ParameterArena) => arena.range(slab, offset, size);
        const gradients = { low: of(sums.low), high: of(sums.high) };
        this.#norm.add(this.state.norm({ slab, offset, size }, gradients, sums.squares(slab, offset, size)));
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

/** The low wire's grid before the first step: gradients are rounded to 2^-40. */
function firstGrid(layout: ParameterLayout, slab: number, decay: AdamWSettings['decay']): Uint32Array {
  const bits = decayBitsOf(layout, slab, decay);
  const bytes = new Uint8Array(4 * gridWords(layout.slabSizes[slab]));
  for (let block = 0; block < layout.slabSizes[slab] / GRID_BLOCK; block++)
    bytes[block] = gridByte(LEAST_GRID_EXPONENT, ((bits[block >> 5] >>> (block & 31)) & 1) === 1);
  return new Uint32Array(bytes.buffer);
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
