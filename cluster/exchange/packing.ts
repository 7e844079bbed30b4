import { LantrainError } from '../../src/errors.js';
import type { Gpu } from '../../src/gpu/device.js';
import type { KernelCache } from '../../src/gpu/kernel.js';
import { DispatchList } from '../../src/gpu/list.js';
import { slice, type View } from '../../src/gpu/view.js';
import { type GridArena, gridWords } from '../../src/model/grid.js';
import type { ParameterArena } from '../../src/model/layout.js';
import type { ExactSums } from '../../src/model/sums.js';
import type { FlatRange } from '../../src/train/optimizer.js';
import { powerOfTwo } from '../../src/util/portable-math.js';
import { type BlockKind, blockLayout, blocksOf, HEADER_WORDS, mostWords } from './blocks.js';
import { type Checksum, payloadChecksum } from './checksum.js';
import { checkGridBytes, lowBlocksOf, lowLayout, mostLowWords } from './low-blocks.js';
import { applyDispatch, checksumDispatch, LowSumPacker } from './low-packing.js';
import { PackedReader, type Packing } from './packed-reader.js';

export { type MovedWeights, UpdatePacker } from './low-packing.js';
export type { Packing } from './packed-reader.js';

/** Blocks per workgroup of `widths` in `pack.wgsl`. */
const WIDTHS_BLOCKS = 8;

/** Words between consecutive checksums, so that each can be bound. */
const CHECKSUM_STRIDE = 64;

/**
 * Packs on the GPU (`shaders/pack.wgsl`) and reads back only the packed bytes.
 */
export class BlockPacker {
  private constructor(
    readonly kernels: KernelCache,
    readonly kind: BlockKind,
    private readonly blocks: View,
    private readonly reader: PackedReader,
  ) {}

  /** Builds a packer for buckets of at most `values` values. */
  static async build(kernels: KernelCache, kind: BlockKind, values: number): Promise<BlockPacker> {
    const { gpu } = kernels;
    const blocks = await gpu.buffer(`${kind} blocks`, blocksOf(values));
    return new BlockPacker(kernels, kind, blocks, await PackedReader.create(gpu, kind, mostWords(values, kind)));
  }

  /**
   * Prepares the packing of one bucket: of the low words `a` and high words `b`, or of the differences from weights `a`
   * to weights `b`.
   */
  async prepare(a: View, b: View): Promise<Packing> {
    const values = a.size / 4;
    const { blocks } = this;
    const { packed } = this.reader;
    const constants = { DIFFERENCES: this.kind === 'differences' };
    const list = new DispatchList();
    list.add({
      shader: 'pack',
      entry: 'widths',
      constants,
      bindings: { a, b, blocks },
      groups: [Math.ceil(blocksOf(values) / WIDTHS_BLOCKS)],
      bytes: 8 * values,
    });
    list.add({ shader: 'pack', entry: 'offsets', constants: {}, bindings: { a, blocks, packed }, groups: [1] });
    list.add({
      shader: 'pack',
      entry: 'scatter',
      constants,
      bindings: { a, b, blocks, packed },
      groups: [blocksOf(values)],
      bytes: 11 * values,
    });
    if (this.kind === 'differences') list.add(checksumDispatch(b, packed, HEADER_WORDS - 2));
    await list.prepare(this.kernels);
    const most = mostWords(values, this.kind);
    return { list, most, words: most };
  }

  /** The packed bytes after `headroom` bytes, which are left free for a frame's header. */
  pack(packing: Packing, headroom = 0): Promise<Uint8Array> {
    return this.reader.pack(packing, headroom);
  }
}

/** The number of values of the largest bucket. */
export function largest(buckets: readonly FlatRange[]): number {
  return Math.max(...buckets.map((b) => b.size));
}

/**
 * The worker's side of the upload: packs its exact sums bucket by bucket. Sums with a grid are packed in the low wire's
 * format.
 */
export class SumPacker {
  /** In the low wire, the checksums of the grid bytes that the buckets' sums are in units of. */
  readonly #checks: Checksum[] = [];

  private constructor(
    private readonly packer: BlockPacker | LowSumPacker,
    private readonly sums: ExactSums,
    readonly buckets: readonly FlatRange[],
    private readonly packings: readonly Packing[],
  ) {}

  static async build(kernels: KernelCache, sums: ExactSums): Promise<SumPacker> {
    const buckets = sums.low.layout.buckets();
    const most = largest(buckets);
    const packer = sums.grid ? await LowSumPacker.build(kernels, most) : await BlockPacker.build(kernels, 'sums', most);
    const packings: Packing[] = [];
    for (const { slab, offset, size } of buckets)
      packings.push(await packer.prepare(sums.low.range(slab, offset, size), sums.high.range(slab, offset, size)));
    return new SumPacker(packer, sums, buckets, packings);
  }

  /**
   * The packed sums of a bucket after everything submitted so far, behind `headroom` free bytes. Several calls may run
   * at once. The sums must not change before the promise resolves. In the low wire, throws RangeError before `setCheck`.
   */
  async pack(bucket: number, headroom = 0): Promise<Uint8Array> {
    const check = this.#checks[bucket];
    if (this.sums.grid && check === undefined) throw new RangeError(`the grid of bucket ${bucket} is not known`);
    const packed = await this.packer.pack(this.packings[bucket], headroom);
    if (check !== undefined) new Uint32Array(packed.buffer, headroom + 8, 2).set([check.a, check.b]);
    return packed;
  }

  /** The low wire: from now on, a bucket's sums are in units of the grid whose bytes have this `payloadChecksum`. */
  setCheck(bucket: number, check: Checksum): void {
    this.#checks[bucket] = check;
  }

  /**
   * For each bucket, the number of dispatches of `list` after which its sums are final, ascending. Backward goes from
   * the last layer to the first, so most buckets can be packed while the rest of the list is still to run.
   */
  finals(list: DispatchList): { readonly bucket: number; readonly dispatches: number }[] {
    return this.buckets
      .map(({ slab, offset, size }, bucket) => {
        const uses = [this.sums.low, this.sums.high].map((arena) => list.lastUse(arena.range(slab, offset, size)));
        return { bucket, dispatches: Math.max(...uses) };
      })
      .sort((x, y) => x.dispatches - y.dispatches || x.bucket - y.bucket);
  }
}

/** Computes checksums of whole buckets of weights on the GPU. */
export class WeightChecks {
  private constructor(
    private readonly gpu: Gpu,
    private readonly list: DispatchList,
    private readonly sums: View,
  ) {}

  static async build(kernels: KernelCache, weights: ParameterArena): Promise<WeightChecks> {
    const buckets = weights.layout.buckets();
    const sums = await kernels.gpu.buffer('weight checksums', CHECKSUM_STRIDE * buckets.length);
    const list = new DispatchList();
    buckets.forEach(({ slab, offset, size }, i) => {
      list.add(checksumDispatch(weights.range(slab, offset, size), slice(sums, CHECKSUM_STRIDE * i, 2), 0));
    });
    await list.prepare(kernels);
    return new WeightChecks(kernels.gpu, list, sums);
  }

  /** The checksum of each bucket, after everything submitted so far. One call at a time. */
  async read(): Promise<Checksum[]> {
    const encoder = this.gpu.device.createCommandEncoder();
    encoder.clearBuffer(this.sums.buffer);
    this.list.encode(encoder);
    this.gpu.device.queue.submit([encoder.finish()]);
    const words = new Uint32Array(await this.gpu.read(this.sums));
    const count = words.length / CHECKSUM_STRIDE;
    return Array.from({ length: count }, (_, i) => ({
      a: words[CHECKSUM_STRIDE * i],
      b: words[CHECKSUM_STRIDE * i + 1],
    }));
  }
}

/** What a follower of the low wire needs: where the grid bytes go, and whether the run's arithmetic is portable. */
export interface FollowerOptions {
  readonly grid: GridArena;
  readonly portable: boolean;
}

/** The worker's side of the download: keeps its weights, and in the low wire the grid, equal to the owner's. */
export class WeightFollower {
  /** Checksums of the buckets' grid bytes. */
  readonly #gridChecks: Checksum[] = [];

  private constructor(
    private readonly gpu: Gpu,
    readonly weights: ParameterArena,
    readonly buckets: readonly FlatRange[],
    private readonly packed: View,
    private readonly blocks: View,
    private readonly lists: readonly DispatchList[],
    private readonly low: { readonly grid: GridArena; readonly unit: View } | undefined,
  ) {}

  /** `options`: the low wire; without them exact. */
  static async build(
    kernels: KernelCache,
    weights: ParameterArena,
    options?: FollowerOptions,
  ): Promise<WeightFollower> {
    const { gpu } = kernels;
    const buckets = weights.layout.buckets();
    const most = largest(buckets);
    const packed = await gpu.buffer(
      'received differences',
      options ? mostLowWords(most, 'updates') : mostWords(most, 'differences'),
    );
    const blocks = await gpu.buffer('received blocks', options ? lowBlocksOf(most) : blocksOf(most));
    const low = options && { grid: options.grid, unit: await gpu.uniform('unit of moves', 4) };
    const lists: DispatchList[] = [];
    for (const { slab, offset, size } of buckets) {
      const range = weights.range(slab, offset, size);
      const list = new DispatchList();
      if (low) list.add(applyDispatch(range, packed, blocks, low.unit, options.portable));
      else
        list.add({
          shader: 'unpack',
          entry: 'apply',
          constants: {},
          bindings: { packed, blocks, weights: range },
          groups: [blocksOf(size)],
          bytes: 11.5 * size,
        });
      await list.prepare(kernels);
      lists.push(list);
    }
    return new WeightFollower(gpu, weights, buckets, packed, blocks, lists, low);
  }

  /**
   * Queues the packed differences onto the bucket's weights. Returns the checksum that the new weights must have. In the
   * low wire they are moves in units of 2^`exponent`, and the next step's grid bytes are queued as well. Throws
   * LT_CLUSTER_FRAME, with nothing changed, if the bytes are malformed.
   */
  apply(bucket: number, packed: Uint8Array, exponent = 0): Checksum {
    const { size } = this.buckets[bucket];
    if (this.low) {
      const { words, codes, offsets, checksum, grid } = lowLayout(packed, size, 'updates');
      this.gpu.write(this.low.unit, Float32Array.of(powerOfTwo(exponent)));
      this.#submit(bucket, words, offsets, codes);
      if (grid) this.#writeGrid(bucket, grid);
      return checksum;
    }
    if (exponent !== 0) throw new LantrainError('LT_CLUSTER_FRAME', `differences with the exponent ${exponent}`);
    const { words, widths, offsets, checksum } = blockLayout(packed, size, 'differences');
    this.#submit(bucket, words, offsets, widths);
    return checksum;
  }

  /** `forms`: the width or the code of each block. */
  #submit(bucket: number, words: Uint32Array, offsets: Uint32Array, forms: Uint8Array): void {
    this.gpu.write(this.packed, words);
    this.gpu.write(
      this.blocks,
      offsets.map((offset, block) => offset * 16 + forms[block]),
    );
    this.lists[bucket].submit(this.gpu);
  }

  /**
   * Queues the write of a bucket's weights, given as little-endian float32, in the low wire followed by their step's grid
   * bytes. Throws LT_CLUSTER_FRAME, with nothing changed, for a wrong number of bytes or a bad grid.
   */
  load(bucket: number, bytes: Uint8Array): void {
    const { slab, offset, size } = this.buckets[bucket];
    if (bytes.byteLength !== 4 * (size + (this.low ? gridWords(size) : 0)))
      throw new LantrainError('LT_CLUSTER_FRAME', `${bytes.byteLength} bytes for a bucket of ${size} weights`);
    const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
    if (this.low) {
      const grid = aligned.subarray(4 * size);
      checkGridBytes(grid, size);
      this.#writeGrid(bucket, grid);
    }
    this.gpu.write(this.weights.range(slab, offset, size), new Uint32Array(aligned.buffer, aligned.byteOffset, size));
  }

  #writeGrid(bucket: number, bytes: Uint8Array): void {
    const { slab, offset, size } = this.buckets[bucket];
    if (this.low)
      this.gpu.write(
        this.low.grid.range(slab, offset, size),
        new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4),
      );
    this.#gridChecks[bucket] = payloadChecksum(bytes);
  }

  /**
   * The checksum of a bucket's newest grid bytes, which sums in their units carry (`SumPacker.setCheck`). Throws RangeError
   * where none came yet.
   */
  gridChecks(bucket: number): Checksum {
    const check = this.#gridChecks[bucket];
    if (check === undefined) throw new RangeError(`no grid of bucket ${bucket} came yet`);
    return check;
  }
}
