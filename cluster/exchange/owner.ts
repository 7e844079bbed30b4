import type { KernelCache } from '../../src/gpu/kernel.js';
import { DispatchList } from '../../src/gpu/list.js';
import { slice, type View } from '../../src/gpu/view.js';
import { GridArena, gridWords } from '../../src/model/grid.js';
import { BUCKET_VALUES, ParameterArena, type ParameterLayout } from '../../src/model/layout.js';
import { addSquares, normChunksOf, squareValues } from '../../src/model/sums.js';
import { type AdamWSettings, type FlatRange, TrainingState } from '../../src/train/optimizer.js';
import { stepExponent } from '../../src/train/step-exponent.js';
import { powerOfTwo } from '../../src/util/portable-math.js';
import { HEADER_WORDS } from './blocks.js';
import { BucketReader } from './bucket-reader.js';
import { type Checksum, payloadChecksum } from './checksum.js';
import { copy, ExactNextWeights, LowNextWeights, type NextWeights } from './next-weights.js';
import { largest } from './packing.js';

export interface OwnerOptions {
  /** Gradients are clipped: the sums of all buckets stay on the adapter, and no bucket is updated before all are complete. */
  readonly clips: boolean;
  /** The run's arithmetic is portable. Default false. */
  readonly portable?: boolean;
  /** In the low wire, the number of micro-batches of a step; undefined in the exact wire. */
  readonly lowMicroBatches?: number;
}

/** The buffers and dispatch lists of one bucket. */
interface BucketWork extends FlatRange {
  /** The low words of the sums, then the high words; without clipping all buckets share the buffer. */
  readonly sums: View;
  readonly norm: DispatchList;
  readonly update: DispatchList;
}

/**
 * The owner's side of a step in a cluster: takes complete sums from the host bucket by bucket, and packs the way to the new
 * weights.
 *
 *     sums (from the host) -> squares, with clipping
 *     AdamW by the sums: moments in place, next weights (next-weights.ts) -> packed, with a checksum
 *     commit: the next weights become the weights
 *
 * `weights` keep the step's own values until `commit`, even for updated buckets: late workers start with them, and work
 * can be repeated. The low wire's grid does so too. Moments, and the low wire's master weights, are updated in place. Without
 * clipping, updates come before it is certain that the step completes. Then what they replace is kept as well, so that the
 * state before the step can always be read. `ownerBudget` counts the memory. Kernels, constants and chunks of the norm are
 * those of `Optimizer`, so the bits are the same.
 */
export class ClusterOwner {
  /** Buckets of the current step whose updates are queued. */
  readonly #updated = new Set<number>();
  /** Number of readers. While there are any, the updated moments are exchanged for the previous ones. */
  #readers = 0;
  #words: Uint32Array | undefined;
  /** The grid bytes of each bucket, as far as they are known, and those of the next step. */
  #grids: Uint8Array[] | undefined;
  readonly #nextGrids: Uint8Array[] = [];
  #exponent = 0;

  private constructor(
    readonly state: TrainingState,
    readonly buckets: readonly FlatRange[],
    private readonly work: readonly BucketWork[],
    private readonly squares: View,
    private readonly next: NextWeights,
    private readonly reader: BucketReader,
    private readonly kept: KeptParts | undefined,
    private readonly unit: View | undefined,
  ) {}

  static async build(
    kernels: KernelCache,
    layout: ParameterLayout,
    settings: AdamWSettings,
    { clips, portable = false, lowMicroBatches }: OwnerOptions,
  ): Promise<ClusterOwner> {
    const { gpu } = kernels;
    const buckets = layout.buckets();
    const most = largest(buckets);
    const wire = lowMicroBatches !== undefined && {
      grid: await GridArena.allocate(gpu, layout),
      microBatches: lowMicroBatches,
    };
    const state = await TrainingState.allocate(kernels, layout, settings, portable, wire || undefined);
    const unit = wire ? await gpu.uniform('unit of moves', 16) : undefined;
    const next: NextWeights = unit
      ? await LowNextWeights.build(kernels, state, state.grid as GridArena, buckets, unit)
      : await ExactNextWeights.build(kernels, state, buckets);
    const shared = clips ? undefined : await gpu.buffer('bucket sums', 2 * most);
    const each = squareValues(state.grid);
    const squares = await gpu.buffer('bucket squares', squaresStride(each) * buckets.length);
    const work: BucketWork[] = [];
    for (const [i, bucket] of buckets.entries()) {
      const { size } = bucket;
      const sums = slice(shared ?? (await gpu.buffer(`bucket sums.${i}`, 2 * size)), 0, 2 * size);
      const gradients = unit ? { low: sums } : { low: slice(sums, 0, size), high: slice(sums, size, size) };
      const own = slice(squares, squaresStride(each) * i, each * normChunksOf(size));
      const norm = new DispatchList();
      norm.add(state.norm(bucket, gradients, own));
      await norm.prepare(kernels);
      const { weights, moves } = next.target(i);
      const update = new DispatchList();
      update.add(state.update(bucket, gradients, weights, own, false, moves));
      await update.prepare(kernels);
      work.push({ ...bucket, sums, norm, update });
    }
    const kept = clips ? undefined : await KeptParts.allocate(state, most);
    const reader = await BucketReader.create(gpu, most);
    return new ClusterOwner(state, buckets, work, squares, next, reader, kept, unit);
  }

  /**
   * Queues the squares of a bucket's gradients, given as the words of their sums, which stay on the adapter for the update.
   * The arrays are free on return. Needed only with clipping, for all buckets before `beginUpdate`; otherwise the update
   * computes them.
   */
  submitNorm(bucket: number, low: Uint32Array, high: Uint32Array): void {
    const work = this.work[bucket];
    this.#upload(work, low, high);
    work.norm.submit(this.state.gpu);
  }

  /** The sum of the squares of all gradients of the step, added in the same order as in `ExactSums.takeReport`. */
  async readSquares(): Promise<{ readonly squares: number; readonly noise: number }> {
    const values = new Float32Array(await this.state.gpu.read(this.squares));
    const total = { squares: 0, noise: 0 };
    const each = squareValues(this.state.grid);
    this.buckets.forEach(({ size }, bucket) => {
      const at = squaresStride(each) * bucket;
      addSquares(total, values.subarray(at, at + each * normChunksOf(size)), each === 2);
    });
    return total;
  }

  /**
   * Writes the parameters of step `step` (1 is the first) that all buckets use; call before its first `submitUpdate`.
   */
  beginUpdate(step: number, learningRate: number, clipScale: number): void {
    this.state.writeStep(step, learningRate, clipScale);
    if (this.unit === undefined) return;
    const exponent = stepExponent(learningRate);
    this.#exponent = exponent ?? 0;
    this.state.gpu.write(this.unit, Float32Array.of(exponent === undefined ? 0 : powerOfTwo(exponent)));
  }

  /** The exponent of the unit of the step's moves, in the low wire; else 0. */
  get exponent(): number {
    return this.#exponent;
  }

  /**
   * Queues the update of a bucket's moments and next weights. `sums`: the words of its sums, free on return; absent where
   * `submitNorm` had them. Call once a step for each bucket. Throws RangeError if the bucket is updated already, or the
   * state is being read.
   */
  submitUpdate(bucket: number, sums?: { readonly low: Uint32Array; readonly high: Uint32Array }): void {
    if (this.#updated.has(bucket)) throw new RangeError(`bucket ${bucket} is updated already in this step`);
    this.#checkUnread();
    const work = this.work[bucket];
    if (sums) this.#upload(work, sums.low, sums.high);
    this.#updated.add(bucket);
    const encoder = this.state.gpu.device.createCommandEncoder();
    this.next.begin(encoder, bucket);
    this.kept?.keep(encoder, work);
    work.update.encode(encoder);
    this.state.gpu.device.queue.submit([encoder.finish()]);
  }

  /**
   * The packed way from an updated bucket's weights to the next ones, with a checksum, after `headroom` free bytes. Several
   * calls may run at once. Call before `commit`, in the low wire for every bucket.
   */
  pack(bucket: number, headroom = 0): Promise<Uint8Array> {
    if (!this.#updated.has(bucket)) throw new RangeError(`bucket ${bucket} is not updated yet in this step`);
    return this.#pack(bucket, headroom);
  }

  async #pack(bucket: number, headroom: number): Promise<Uint8Array> {
    const packed = await this.next.pack(bucket, headroom);
    if (this.unit) {
      const start = headroom + 4 * HEADER_WORDS;
      this.#nextGrids[bucket] = packed.slice(start, start + 4 * gridWords(this.buckets[bucket].size));
    }
    return packed;
  }

  /**
   * Runs `read` while the state is that before the step, even if some buckets are updated already. Nothing may be updated or
   * committed meanwhile. Several readers may run at once. Throws RangeError if buckets are updated and what they replaced was
   * not kept.
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
   * Queues what makes the next weights the weights. Throws RangeError unless every bucket is updated. All must be packed
   * before.
   */
  commit(): void {
    if (this.#updated.size !== this.buckets.length)
      throw new RangeError(`commit with ${this.#updated.size} of ${this.buckets.length} buckets updated`);
    this.#checkUnread();
    this.#updated.clear();
    const encoder = this.state.gpu.device.createCommandEncoder();
    this.next.commit(encoder);
    this.state.gpu.device.queue.submit([encoder.finish()]);
    if (this.unit) this.#grids = this.#nextGrids.splice(0);
  }

  /**
   * All weights of a bucket before the commit: little-endian float32 after `headroom` free bytes; in the low wire then the
   * bucket's grid bytes.
   */
  async readWeights(bucket: number, headroom = 0): Promise<Uint8Array> {
    const { slab, offset, size } = this.buckets[bucket];
    const view = this.state.weights.range(slab, offset, size);
    const grids = await this.grids();
    if (grids === undefined) return this.reader.read(view, headroom);
    const message = await this.reader.read(view, headroom, grids[bucket].length);
    message.set(grids[bucket], headroom + view.size);
    return message;
  }

  /** The grid bytes of all buckets, in the low wire. */
  async grids(): Promise<readonly Uint8Array[] | undefined> {
    const { grid, gpu } = this.state;
    if (grid === undefined || this.#grids) return this.#grids;
    const read: Uint8Array[] = [];
    for (const { slab, offset, size } of this.buckets)
      read.push(new Uint8Array(await gpu.read(grid.range(slab, offset, size))));
    // A commit meanwhile knows newer ones.
    this.#grids ??= read;
    return this.#grids;
  }

  /** The checksum of each bucket's grid bytes, in the low wire. */
  async gridChecks(): Promise<readonly Checksum[] | undefined> {
    return (await this.grids())?.map(payloadChecksum);
  }

  #upload({ size, sums }: BucketWork, low: Uint32Array, high: Uint32Array): void {
    if (low.length !== size || high.length !== size)
      throw new RangeError(`sums of ${low.length} and ${high.length} values for a bucket of ${size}`);
    this.state.gpu.write(slice(sums, 0, size), this.#unshared(low));
    this.state.gpu.write(slice(sums, size, size), this.#unshared(high));
  }

  /** Copies the words out of shared memory, which Dawn's bindings refuse. Valid until the next call. */
  #unshared(words: Uint32Array): Uint32Array {
    if (words.buffer instanceof ArrayBuffer) return words;
    this.#words ??= new Uint32Array(largest(this.buckets));
    this.#words.set(words);
    return this.#words.subarray(0, words.length);
  }
}

/** Values between the squares of consecutive buckets, so that each can be bound. */
function squaresStride(each: number): number {
  return each * normChunksOf(BUCKET_VALUES);
}

/** What the updates of the current step have replaced: moments, and in the low wire master weights. */
class KeptParts {
  private constructor(
    private readonly pairs: readonly { readonly now: ParameterArena; readonly before: ParameterArena }[],
    /** Space for the moments of one bucket. */
    private readonly spare: View,
  ) {}

  static async allocate({ gpu, layout, m, v, master }: TrainingState, bucketValues: number): Promise<KeptParts> {
    const beside = async (now: ParameterArena, name: string) => ({
      now,
      before: await ParameterArena.allocate(gpu, layout, name),
    });
    const pairs = [await beside(m, 'm before'), await beside(v, 'v before')];
    if (master) pairs.push(await beside(master, 'master before'));
    return new KeptParts(pairs, await gpu.buffer('bucket spare', bucketValues));
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
