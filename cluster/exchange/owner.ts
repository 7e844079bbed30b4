import type { KernelCache } from '../../src/gpu/kernel.js';
import { DispatchList } from '../../src/gpu/list.js';
import type { View } from '../../src/gpu/view.js';
import { slice } from '../../src/gpu/view.js';
import { BUCKET_VALUES, ParameterArena, type ParameterLayout } from '../../src/model/layout.js';
import { normChunksOf } from '../../src/model/sums.js';
import { type AdamWSettings, type FlatRange, TrainingState } from '../../src/train/optimizer.js';
import { BlockPacker, largest, type Packing } from './packing.js';

/** Values between the squares of consecutive buckets, so that each can be bound. */
const SQUARES_STRIDE = normChunksOf(BUCKET_VALUES);

/** The buffers and dispatch lists of one bucket. */
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
 * The owner's side of a step in a cluster: takes complete sums from the host bucket by bucket, and packs the
 * differences to the new weights.
 *
 *     low, high (scratch of one bucket) -> squares
 *     weights -> copied to next -> AdamW, by low and high (next and the moments in place) -> differences, checksum
 *     commit: next -> copied to weights
 *
 * `weights` keep the step's own values until `commit`, even for updated buckets: late workers start with them, and work
 * can be repeated. With the moments that is 16 bytes per parameter on the adapter. Moments are updated in place.
 * Without clipping, updates come before it is certain that the step completes. Then the previous moments are kept as
 * well, 8 bytes more per parameter, so that the state before the step can always be read. Kernels, constants and chunks
 * of the norm are those of `Optimizer`, so the bits are the same.
 */
export class ClusterOwner {
  /** Buckets of the current step whose updates are queued. */
  readonly #updated = new Set<number>();
  /** Number of readers. While there are any, the updated moments are exchanged for the previous ones. */
  #readers = 0;
  #words: Uint32Array | undefined;

  private constructor(
    readonly state: TrainingState,
    readonly buckets: readonly FlatRange[],
    private readonly work: readonly BucketWork[],
    private readonly squares: View,
    private readonly packer: BlockPacker,
    private readonly kept: KeptMoments | undefined,
  ) {}

  /**
   * `keepsMoments`: buckets are updated before it is certain that the step completes. `portable`: the run's arithmetic is
   * portable.
   */
  static async build(
    kernels: KernelCache,
    layout: ParameterLayout,
    settings: AdamWSettings,
    keepsMoments: boolean,
    portable = false,
  ): Promise<ClusterOwner> {
    const { gpu } = kernels;
    const buckets = layout.buckets();
    const most = largest(buckets);
    const state = await TrainingState.allocate(kernels, layout, settings, portable);
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
      norm.add(state.norm(bucket, sums, own));
      await norm.prepare(kernels);
      const update = new DispatchList();
      update.add(state.update(bucket, sums, next, own, false));
      await update.prepare(kernels);
      work.push({ ...bucket, weights, next, ...sums, norm, update, packing: await packer.prepare(weights, next) });
    }
    const kept = keepsMoments ? await KeptMoments.allocate(state, most) : undefined;
    return new ClusterOwner(state, buckets, work, squares, packer, kept);
  }

  /**
   * Queues the squares of a bucket's gradients, given as the words of their sums. The arrays are free on return. Needed
   * only with clipping, for all buckets before `beginUpdate`; otherwise the update computes them.
   */
  submitNorm(bucket: number, low: Uint32Array, high: Uint32Array): void {
    const work = this.work[bucket];
    this.#upload(work, low, high);
    work.norm.submit(this.state.gpu);
  }

  /** The sum of the squares of all gradients of the step, added in the same order as in `ExactSums.takeReport`. */
  async readSquares(): Promise<number> {
    const values = new Float32Array(await this.state.gpu.read(this.squares));
    let sum = 0;
    this.buckets.forEach(({ size }, bucket) => {
      for (let chunk = 0; chunk < normChunksOf(size); chunk++) sum += values[SQUARES_STRIDE * bucket + chunk];
    });
    return sum;
  }

  /**
   * Writes the parameters of step `step` (1 is the first) that all buckets use; call before its first `submitUpdate`.
   */
  beginUpdate(step: number, learningRate: number, clipScale: number): void {
    this.state.writeStep(step, learningRate, clipScale);
  }

  /**
   * Queues the update of a bucket's moments and next weights; `low` and `high` are the words of its sums. Call once a
   * step for each bucket. The arrays may be used again on return. Throws RangeError if the bucket is updated already,
   * or the state is being read.
   */
  submitUpdate(bucket: number, low: Uint32Array, high: Uint32Array): void {
    if (this.#updated.has(bucket)) throw new RangeError(`bucket ${bucket} is updated already in this step`);
    this.#checkUnread();
    const work = this.work[bucket];
    this.#upload(work, low, high);
    this.#updated.add(bucket);
    const encoder = this.state.gpu.device.createCommandEncoder();
    copy(encoder, work.weights, work.next);
    this.kept?.keep(encoder, work);
    work.update.encode(encoder);
    this.state.gpu.device.queue.submit([encoder.finish()]);
  }

  /**
   * The packed differences from an updated bucket's weights to the next ones, with a checksum, after `headroom` free
   * bytes. Several calls may run at once. Call before `commit`.
   */
  pack(bucket: number, headroom = 0): Promise<Uint8Array> {
    if (!this.#updated.has(bucket)) throw new RangeError(`bucket ${bucket} is not updated yet in this step`);
    return this.packer.pack(this.work[bucket].packing, headroom);
  }

  /**
   * Runs `read` while weights and moments are those before the step, even if some buckets are updated already. Nothing
   * may be updated or committed meanwhile. Several readers may run at once. Throws RangeError if buckets are updated
   * and their moments were not kept.
   */
  async readBefore<T>(read: () => Promise<T>): Promise<T> {
    if (this.#readers === 0) this.#exchange();
    this.#readers++;
    try {
      return await read();
    } finally {
      this.#readers--;
      if (this.#readers === 0) this.#exchange();
    }
  }

  #checkUnread(): void {
    if (this.#readers > 0) throw new RangeError('the state before the step is being read');
  }

  /** Queues a swap of the updated buckets' moments with the kept ones. */
  #exchange(): void {
    if (this.#updated.size === 0) return;
    if (this.kept === undefined) throw new RangeError('the moments before this step are gone');
    const encoder = this.state.gpu.device.createCommandEncoder();
    for (const bucket of this.#updated) this.kept.exchange(encoder, this.buckets[bucket]);
    this.state.gpu.device.queue.submit([encoder.finish()]);
  }

  /**
   * Queues the copy that makes the next weights the weights. Throws RangeError unless every bucket is updated.
   * Differences must be packed before.
   */
  commit(): void {
    if (this.#updated.size !== this.buckets.length)
      throw new RangeError(`commit with ${this.#updated.size} of ${this.buckets.length} buckets updated`);
    this.#checkUnread();
    this.#updated.clear();
    const encoder = this.state.gpu.device.createCommandEncoder();
    for (const { weights, next } of this.work) copy(encoder, next, weights);
    this.state.gpu.device.queue.submit([encoder.finish()]);
  }

  /** All weights of a bucket before the commit: little-endian float32 after `headroom` free bytes. */
  readWeights(bucket: number, headroom = 0): Promise<Uint8Array> {
    return this.packer.read(this.work[bucket].weights, headroom);
  }

  #upload(work: BucketWork, low: Uint32Array, high: Uint32Array): void {
    if (low.length !== work.size || high.length !== work.size)
      throw new RangeError(`sums of ${low.length} and ${high.length} values for a bucket of ${work.size}`);
    this.state.gpu.write(work.low, this.#unshared(low));
    this.state.gpu.write(work.high, this.#unshared(high));
  }

  /** Copies the words out of shared memory, which Dawn's bindings refuse. Valid until the next call. */
  #unshared(words: Uint32Array): Uint32Array {
    if (words.buffer instanceof ArrayBuffer) return words;
    this.#words ??= new Uint32Array(largest(this.buckets));
    this.#words.set(words);
    return this.#words.subarray(0, words.length);
  }
}

/** The previous moments of buckets that the current step has updated. */
class KeptMoments {
  private constructor(
    private readonly pairs: readonly { readonly now: ParameterArena; readonly before: ParameterArena }[],
    /** Space for the moments of one bucket. */
    private readonly spare: View,
  ) {}

  static async allocate({ gpu, layout, m, v }: TrainingState, bucketValues: number): Promise<KeptMoments> {
    const beside = async (now: ParameterArena, name: string) => ({
      now,
      before: await ParameterArena.allocate(gpu, layout, name),
    });
    const pairs = [await beside(m, 'm before'), await beside(v, 'v before')];
    return new KeptMoments(pairs, await gpu.buffer('bucket spare', bucketValues));
  }

  keep(encoder: GPUCommandEncoder, { slab, offset, size }: FlatRange): void {
    for (const { now, before } of this.pairs)
      copy(encoder, now.range(slab, offset, size), before.range(slab, offset, size));
  }

  exchange(encoder: GPUCommandEncoder, { slab, offset, size }: FlatRange): void {
    const spare = slice(this.spare, 0, size);
    for (const { now, before } of this.pairs) {
      const [one, other] = [now.range(slab, offset, size), before.range(slab, offset, size)];
      copy(encoder, one, spare);
      copy(encoder, other, one);
      copy(encoder, spare, other);
    }
  }
}

function copy(encoder: GPUCommandEncoder, from: View, to: View): void {
  encoder.copyBufferToBuffer(from.buffer, from.offset, to.buffer, to.offset, from.size);
}
