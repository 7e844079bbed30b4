import type { KernelCache } from '../../src/gpu/kernel.js';
import { DispatchList } from '../../src/gpu/list.js';
import { alignValues, slice, type View } from '../../src/gpu/view.js';
import { type GridArena, gridWords } from '../../src/model/grid.js';
import { ParameterArena } from '../../src/model/layout.js';
import type { FlatRange, TrainingState } from '../../src/train/optimizer.js';
import { advanceDispatch, UpdatePacker } from './low-packing.js';
import type { Packing } from './packed-reader.js';
import { BlockPacker, largest } from './packing.js';

/** The weights after a step while it is not certain yet that the step completes: the weights themselves must not change. */
export interface NextWeights {
  /** What the update of a bucket writes in place of the weights. */
  target(bucket: number): { readonly weights: View; readonly moves?: View };
  /** Queues what must come before the update of a bucket. */
  begin(encoder: GPUCommandEncoder, bucket: number): void;
  /** The packed way from the weights to the next ones, after `headroom` free bytes. */
  pack(bucket: number, headroom: number): Promise<Uint8Array>;
  /** Queues the change that makes the next weights of all buckets the weights. */
  commit(encoder: GPUCommandEncoder): void;
}

export function copy(encoder: GPUCommandEncoder, from: View, to: View): void {
  encoder.copyBufferToBuffer(from.buffer, from.offset, to.buffer, to.offset, from.size);
}

/** A second copy of the weights, and differences of bits. */
export class ExactNextWeights implements NextWeights {
  private constructor(
    private readonly packer: BlockPacker,
    private readonly buckets: readonly {
      readonly weights: View;
      readonly next: View;
      readonly packing: Packing;
    }[],
  ) {}

  static async build(
    kernels: KernelCache,
    { layout, weights }: TrainingState,
    ranges: readonly FlatRange[],
  ): Promise<ExactNextWeights> {
    const arena = await ParameterArena.allocate(kernels.gpu, layout, 'next');
    const packer = await BlockPacker.build(kernels, 'differences', largest(ranges));
    const buckets = [];
    for (const { slab, offset, size } of ranges) {
      const [own, next] = [weights.range(slab, offset, size), arena.range(slab, offset, size)];
      buckets.push({ weights: own, next, packing: await packer.prepare(own, next) });
    }
    return new ExactNextWeights(packer, buckets);
  }

  target(bucket: number): { readonly weights: View } {
    return { weights: this.buckets[bucket].next };
  }

  begin(encoder: GPUCommandEncoder, bucket: number): void {
    const { weights, next } = this.buckets[bucket];
    copy(encoder, weights, next);
  }

  pack(bucket: number, headroom: number): Promise<Uint8Array> {
    return this.packer.pack(this.buckets[bucket].packing, headroom);
  }

  commit(encoder: GPUCommandEncoder): void {
    for (const { weights, next } of this.buckets) copy(encoder, next, weights);
  }
}

interface Moved {
  readonly weights: View;
  /** The grid now and after the step. */
  readonly grid: View;
  readonly nextGrid: View;
  /** What the update writes: the next grid, then the moves (shaders/update_low.wgsl). */
  readonly output: View;
  readonly packing: Packing;
}

/** Moves of the weights in units of a power of two, half a byte a parameter, and the next grid. */
export class LowNextWeights implements NextWeights {
  private constructor(
    private readonly packer: UpdatePacker,
    private readonly buckets: readonly Moved[],
    /** Adds the moves to the weights. */
    private readonly advance: DispatchList,
  ) {}

  /** `unit`: the uniform of the power of two that moves count. */
  static async build(
    kernels: KernelCache,
    { weights, portable }: TrainingState,
    grid: GridArena,
    ranges: readonly FlatRange[],
    unit: View,
  ): Promise<LowNextWeights> {
    const packer = await UpdatePacker.build(kernels, largest(ranges), portable);
    const advance = new DispatchList();
    const buckets: Moved[] = [];
    for (const [i, { slab, offset, size }] of ranges.entries()) {
      const own = weights.range(slab, offset, size);
      const bytes = gridWords(size);
      const output = await kernels.gpu.buffer(`moves.${i}`, alignValues(bytes) + size / 8);
      const [nextGrid, moves] = [slice(output, 0, bytes), slice(output, alignValues(bytes), size / 8)];
      const moved = { s: own, moves, unit };
      advance.add(advanceDispatch(moved, portable));
      const packing = await packer.prepare(moves, nextGrid, own, unit);
      buckets.push({ weights: own, grid: grid.range(slab, offset, size), nextGrid, output, packing });
    }
    await advance.prepare(kernels);
    return new LowNextWeights(packer, buckets, advance);
  }

  target(bucket: number): { readonly weights: View; readonly moves: View } {
    const { weights, output } = this.buckets[bucket];
    return { weights, moves: output };
  }

  begin(): void {}

  pack(bucket: number, headroom: number): Promise<Uint8Array> {
    return this.packer.pack(this.buckets[bucket].packing, headroom);
  }

  commit(encoder: GPUCommandEncoder): void {
    this.advance.encode(encoder);
    for (const { grid, nextGrid } of this.buckets) copy(encoder, nextGrid, grid);
  }
}
