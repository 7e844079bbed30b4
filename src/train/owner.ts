import type { View } from '../gpu/device.js';
import { slice } from '../gpu/device.js';
import type { KernelCache } from '../gpu/kernel.js';
import { DispatchList } from '../gpu/list.js';
import { BUCKET_VALUES, ParameterArena, type ParameterLayout } from '../model/layout.js';
import { normChunksOf } from '../model/sums.js';
import { type AdamWSettings, type FlatRange, normDispatch, TrainingState } from './optimizer.js';
import { BlockPacker, largest, type Packing } from './packing.js';

/** The squares of a bucket lie this many values after those of the one before, so that they can be bound. */
const SQUARES_STRIDE = normChunksOf(BUCKET_VALUES);

/** What the owner does with one bucket of complete sums. */
interface BucketWork extends FlatRange {
  readonly weights: View;
  readonly next: View;
  readonly low: View;
  readonly high: View;
  readonly norm: DispatchList;
  readonly update: DispatchList;
  readonly packing: Packing;
}

/**
 * The owner's side of a step in a cluster: complete sums come bucket by bucket from the host, new weights go down as
 * packed differences.
 *
 *     low, high (scratch of one bucket) -> squares
 *     weights -> copied to next -> AdamW, by low and high (next and the moments in place) -> differences, checksum
 *     commit: next -> copied to weights
 *
 * `weights` are the step's own until `commit`, whatever is updated already: who joins late starts with them, and work
 * can be done again. With the moments that is 16 bytes a parameter on the adapter. Kernels, constants and chunks of the
 * norm are those of `Optimizer`, so the bits are.
 */
export class ClusterOwner {
  /** Buckets of this step whose updates are queued. */
  readonly #updated = new Set<number>();
  #words: Uint32Array | undefined;

  private constructor(
    readonly state: TrainingState,
    readonly buckets: readonly FlatRange[],
    private readonly work: readonly BucketWork[],
    private readonly squares: View,
    private readonly packer: BlockPacker,
  ) {}

  static async build(kernels: KernelCache, layout: ParameterLayout, settings: AdamWSettings): Promise<ClusterOwner> {
    const { gpu } = kernels;
    const buckets = layout.buckets();
    const most = largest(buckets);
    const state = await TrainingState.allocate(gpu, layout, settings);
    const nextWeights = await ParameterArena.allocate(gpu, layout, 'next');
    const low = await gpu.buffer('bucket low', most);
    const high = await gpu.buffer('bucket high', most);
    const squares = await gpu.buffer('bucket squares', SQUARES_STRIDE * buckets.length);
    const packer = await BlockPacker.build(kernels, 'differences', most);
    const work: BucketWork[] = [];
    for (const [i, bucket] of buckets.entries()) {
      const { slab, offset, size } = bucket;
      const sums = { low: slice(low, 0, size), high: slice(high, 0, size) };
      const weights = state.weights.range(slab, offset, size);
      const next = nextWeights.range(slab, offset, size);
      const norm = new DispatchList();
      const own = slice(squares, SQUARES_STRIDE * i, normChunksOf(size));
      norm.add(normDispatch(gpu, size, sums, own));
      await norm.prepare(kernels);
      const update = new DispatchList();
      update.add(state.update(bucket, sums, next, own, false));
      await update.prepare(kernels);
      work.push({ ...bucket, weights, next, ...sums, norm, update, packing: await packer.prepare(weights, next) });
    }
    return new ClusterOwner(state, buckets, work, squares, packer);
  }

  /**
   * Queues the squares of a bucket's gradients, given as the words of their sums. The arrays are free again on return.
   * Needed with clipping only, for all buckets before `beginUpdate`: an update does it as well.
   */
  submitNorm(bucket: number, low: Uint32Array, high: Uint32Array): void {
    const work = this.work[bucket];
    this.#upload(work, low, high);
    work.norm.submit(this.state.gpu);
  }

  /** The sum of the squares of all gradients of the step, added in the same order as `ExactSums.takeReport` does. */
  async readSquares(): Promise<number> {
    const values = new Float32Array(await this.state.gpu.read(this.squares));
    let sum = 0;
    this.buckets.forEach(({ size }, bucket) => {
      for (let chunk = 0; chunk < normChunksOf(size); chunk++) sum += values[SQUARES_STRIDE * bucket + chunk];
    });
    return sum;
  }

  /** Queues what all buckets of step `step` (1 is the first) share; before its first `submitUpdate`. */
  beginUpdate(step: number, learningRate: number, clipScale: number): void {
    this.state.writeStep(step, learningRate, clipScale);
  }

  /**
   * Queues the update of a bucket's moments and next weights, once a step, by the words of its sums. The arrays are
   * free again on return.
   */
  submitUpdate(bucket: number, low: Uint32Array, high: Uint32Array): void {
    if (this.#updated.has(bucket)) throw new RangeError(`bucket ${bucket} is updated already in this step`);
    const work = this.work[bucket];
    this.#upload(work, low, high);
    this.#updated.add(bucket);
    const encoder = this.state.gpu.device.createCommandEncoder();
    copy(encoder, work.weights, work.next);
    work.update.encode(encoder);
    this.state.gpu.device.queue.submit([encoder.finish()]);
  }

  /**
   * What turns the step's weights of an updated bucket into the next ones: packed differences with their checksum,
   * after `headroom` free bytes. Any number of buckets may be asked for at once; before `commit`.
   */
  pack(bucket: number, headroom = 0): Promise<Uint8Array> {
    if (!this.#updated.has(bucket)) throw new RangeError(`bucket ${bucket} is not updated yet in this step`);
    return this.packer.pack(this.work[bucket].packing, headroom);
  }

  /** Queues: the next weights are the weights. Every bucket must be updated, and packed where that is wanted. */
  commit(): void {
    if (this.#updated.size !== this.buckets.length)
      throw new RangeError(`commit with ${this.#updated.size} of ${this.buckets.length} buckets updated`);
    this.#updated.clear();
    const encoder = this.state.gpu.device.createCommandEncoder();
    for (const { weights, next } of this.work) copy(encoder, next, weights);
    this.state.gpu.device.queue.submit([encoder.finish()]);
  }

  /** The step's weights of a bucket, whole: little-endian float32 after `headroom` free bytes. */
  readWeights(bucket: number, headroom = 0): Promise<Uint8Array> {
    return this.packer.read(this.work[bucket].weights, headroom);
  }

  #upload(work: BucketWork, low: Uint32Array, high: Uint32Array): void {
    if (low.length !== work.size || high.length !== work.size)
      throw new RangeError(`sums of ${low.length} and ${high.length} values for a bucket of ${work.size}`);
    this.state.gpu.write(work.low, this.#unshared(low));
    this.state.gpu.write(work.high, this.#unshared(high));
  }

  /** The words in memory that WebGPU takes: Dawn's bindings refuse shared memory. Valid until the next call. */
  #unshared(words: Uint32Array): Uint32Array {
    if (words.buffer instanceof ArrayBuffer) return words;
    this.#words ??= new Uint32Array(largest(this.buckets));
    this.#words.set(words);
    return this.#words.subarray(0, words.length);
  }
}

function copy(encoder: GPUCommandEncoder, from: View, to: View): void {
  encoder.copyBufferToBuffer(from.buffer, from.offset, to.buffer, to.offset, from.size);
}
