import { type Gpu, slice, type View } from '../gpu/device.js';
import type { KernelCache } from '../gpu/kernel.js';
import { DispatchList } from '../gpu/list.js';
import { BUCKET_VALUES, ParameterArena, type ParameterLayout } from '../model/layout.js';
import type { Parameter } from '../model/parameters.js';
import { type ExactSums, NORM_CHUNK_VALUES, normChunksOf } from '../model/sums.js';

export interface AdamWSettings {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly weightDecay: number;
  /** `all` decays every parameter, as torch.optim.AdamW does by default; `matrices` leaves biases and gains alone. */
  readonly decay: 'all' | 'matrices';
}

/** Blocks of 64 values share one decay bit. */
const DECAY_BLOCK = 64;

/**
 * The owner of the training state: weights and moments, and the one update that changes them. Gradients come as exact
 * sums, whoever computed them.
 */
export class Optimizer {
  readonly #norm = new DispatchList();
  readonly #update = new DispatchList();

  private constructor(
    readonly gpu: Gpu,
    readonly settings: AdamWSettings,
    readonly weights: ParameterArena,
    readonly first: ParameterArena,
    readonly second: ParameterArena,
    private readonly uniform: View,
  ) {}

  static async build(
    kernels: KernelCache,
    layout: ParameterLayout,
    sums: ExactSums,
    settings: AdamWSettings,
  ): Promise<Optimizer> {
    const { gpu } = kernels;
    const weights = await ParameterArena.allocate(gpu, layout, 'weights');
    const first = await ParameterArena.allocate(gpu, layout, 'first');
    const second = await ParameterArena.allocate(gpu, layout, 'second');
    const uniform = await gpu.uniform('adamw', 48);
    const optimizer = new Optimizer(gpu, settings, weights, first, second, uniform);
    await optimizer.#addUpdate(sums);
    optimizer.#addNorm(sums);
    await optimizer.#update.prepare(kernels);
    await optimizer.#norm.prepare(kernels);
    return optimizer;
  }

  async #addUpdate(sums: ExactSums): Promise<void> {
    const { layout } = this.weights;
    const decayBits: View[] = [];
    for (const slab of layout.slabSizes.keys()) {
      const bits = decayBitsOf(layout, slab, this.settings.decay);
      const view = await this.gpu.buffer(`decay.${slab}`, bits.length);
      this.gpu.write(view, bits);
      decayBits.push(view);
    }
    for (const { slab, offset, size } of layout.buckets()) {
      const bit = offset / DECAY_BLOCK / 32;
      this.#update.add({
        shader: 'adamw',
        entry: 'update',
        constants: {},
        bindings: {
          weights: this.weights.range(slab, offset, size),
          first: this.first.range(slab, offset, size),
          second: this.second.range(slab, offset, size),
          low: sums.low.range(slab, offset, size),
          high: sums.high.range(slab, offset, size),
          decayBits: slice(decayBits[slab], bit, Math.ceil(size / DECAY_BLOCK / 32)),
          step: this.uniform,
        },
        groups: [Math.ceil(size / 4 / 64)],
        bytes: 40 * size,
      });
    }
  }

  #addNorm(sums: ExactSums): void {
    const { slabSizes, limits } = this.weights.layout;
    slabSizes.forEach((used, slab) => {
      const squares = sums.squares(slab);
      // One dispatch a binding; the limit is a multiple of the bucket, so chunks fall the same way under any limit.
      const most = Math.max(BUCKET_VALUES, limits.windowValues);
      for (let offset = 0; offset < used; offset += most) {
        const size = Math.min(most, used - offset);
        const chunks = normChunksOf(size);
        this.#norm.add({
          shader: 'gradient_norm',
          entry: 'chunk_squares',
          constants: { FIRST: offset / NORM_CHUNK_VALUES },
          bindings: { low: sums.low.range(slab, offset, size), high: sums.high.range(slab, offset, size), squares },
          groups: [chunks],
          bytes: 8 * size,
        });
      }
    });
  }

  /** Queues the squares of all gradients into the sums' report. */
  submitNorm(): void {
    this.#norm.submit(this.gpu);
  }

  /**
   * Queues update number `step` (1 is the first) of all weights and moments; sets the sums to zero. Bias correction
   * and the decay factor are computed here, in float64.
   */
  submitUpdate(step: number, learningRate: number, clipScale: number): void {
    const { beta1, beta2, epsilon, weightDecay } = this.settings;
    this.gpu.write(
      this.uniform,
      Float32Array.of(
        clipScale,
        1 - learningRate * weightDecay,
        beta2,
        1 - beta1,
        1 - beta2,
        learningRate / (1 - beta1 ** step),
        1 / Math.sqrt(1 - beta2 ** step),
        epsilon,
      ),
    );
    this.#update.submit(this.gpu);
  }

  get lists(): readonly DispatchList[] {
    return [this.#norm, this.#update];
  }
}

function decays(parameter: Parameter, decay: AdamWSettings['decay']): boolean {
  return decay === 'all' || parameter.kind === 'matrix' || parameter.kind === 'embedding';
}

/** One bit for each block of 64 values of a slab. */
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
