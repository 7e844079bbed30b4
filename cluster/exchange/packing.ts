import { LantrainError } from '../../src/errors.js';
import type { Gpu } from '../../src/gpu/device.js';
import type { KernelCache } from '../../src/gpu/kernel.js';
import { type Dispatch, DispatchList } from '../../src/gpu/list.js';
import { Readback } from '../../src/gpu/readback.js';
import { slice, type View } from '../../src/gpu/view.js';
import type { ParameterArena } from '../../src/model/layout.js';
import type { ExactSums } from '../../src/model/sums.js';
import type { FlatRange } from '../../src/train/optimizer.js';
import { type BlockKind, blockLayout, blocksOf, HEADER_WORDS, mostWords } from './blocks.js';
import type { Checksum } from './checksum.js';

/** Buckets read back at once: one is packed while the previous one is copied and mapped. */
const IN_FLIGHT = 2;

/** Blocks per workgroup of `widths` in `pack.wgsl`. */
const WIDTHS_BLOCKS = 8;

/** Groups of four values per workgroup of `checksum.wgsl`: threads times groups per thread. */
const CHECKSUM_FOURS = 64 * 16;

/** Words between consecutive checksums, so that each can be bound. */
const CHECKSUM_STRIDE = 64;

/** A list that packs one bucket, and the number of words of its last result. */
export interface Packing {
  readonly list: DispatchList;
  readonly most: number;
  words: number;
}

/**
 * Packs on the GPU (`shaders/pack.wgsl`) and reads back only the packed bytes. All buckets share one buffer for the
 * packed words: the copy to a staging buffer is queued with the packing. The number of words is known only afterwards,
 * so a little more than the last number is copied. If that is too short, the bucket is packed again.
 */
export class BlockPacker {
  private constructor(
    readonly kernels: KernelCache,
    readonly kind: BlockKind,
    private readonly blocks: View,
    private readonly packed: View,
    private readonly readback: Readback,
  ) {}

  /** Builds a packer for buckets of at most `values` values. */
  static async build(kernels: KernelCache, kind: BlockKind, values: number): Promise<BlockPacker> {
    const { gpu } = kernels;
    const most = mostWords(values, kind);
    const blocks = await gpu.buffer(`${kind} blocks`, blocksOf(values));
    const packed = await gpu.buffer(`packed ${kind}`, most);
    const readback = await Readback.create(gpu, `staged ${kind}`, 4 * most, IN_FLIGHT);
    return new BlockPacker(kernels, kind, blocks, packed, readback);
  }

  /**
   * Prepares the packing of one bucket: of the low words `a` and high words `b`, or of the differences from weights `a`
   * to weights `b`.
   */
  async prepare(a: View, b: View): Promise<Packing> {
    const values = a.size / 4;
    const { blocks, packed } = this;
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
  async pack(packing: Packing, headroom = 0): Promise<Uint8Array> {
    const attempt = (words: number) =>
      this.readback.read(
        (encoder) => {
          packing.list.encode(encoder);
          return slice(this.packed, 0, words);
        },
        (bytes) => {
          const [total] = new Uint32Array(bytes, 0, 1);
          packing.words = total;
          return total <= words ? copyBytes(bytes, 4 * total, headroom) : undefined;
        },
      );
    const guess = Math.min(packing.most, Math.ceil(packing.words * 1.0625) + 256);
    const result = (await attempt(guess)) ?? (await attempt(packing.most));
    if (result === undefined) throw new Error('packed words beyond the most there can be');
    return result;
  }

  /** The unpacked bytes of a view, at most a bucket, after `headroom` free bytes. */
  read(view: View, headroom = 0): Promise<Uint8Array> {
    return this.readback.read(
      () => view,
      (bytes) => copyBytes(bytes, view.size, headroom),
    );
  }
}

function copyBytes(from: ArrayBuffer, count: number, headroom: number): Uint8Array {
  const result = new Uint8Array(headroom + count);
  result.set(new Uint8Array(from, 0, count), headroom);
  return result;
}

/** A dispatch that adds the checksum of `values` to words `at` and `at` + 1 of `sums`. */
export function checksumDispatch(values: View, sums: View, at: number): Dispatch {
  return {
    shader: 'checksum',
    entry: 'checksum',
    constants: { AT: at },
    bindings: { values, sums },
    groups: [Math.ceil(values.size / 16 / CHECKSUM_FOURS)],
    bytes: values.size,
  };
}

/** The number of values of the largest bucket. */
export function largest(buckets: readonly FlatRange[]): number {
  return Math.max(...buckets.map((b) => b.size));
}

/** The worker's side of the upload: packs its exact sums bucket by bucket. */
export class SumPacker {
  private constructor(
    private readonly packer: BlockPacker,
    private readonly sums: ExactSums,
    readonly buckets: readonly FlatRange[],
    private readonly packings: readonly Packing[],
  ) {}

  static async build(kernels: KernelCache, sums: ExactSums): Promise<SumPacker> {
    const buckets = sums.low.layout.buckets();
    const packer = await BlockPacker.build(kernels, 'sums', largest(buckets));
    const packings: Packing[] = [];
    for (const { slab, offset, size } of buckets)
      packings.push(await packer.prepare(sums.low.range(slab, offset, size), sums.high.range(slab, offset, size)));
    return new SumPacker(packer, sums, buckets, packings);
  }

  /**
   * The packed sums of a bucket after everything submitted so far, behind `headroom` free bytes. Several calls may run
   * at once. The sums must not change before the promise resolves.
   */
  pack(bucket: number, headroom = 0): Promise<Uint8Array> {
    return this.packer.pack(this.packings[bucket], headroom);
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

/** The worker's side of the download: keeps its weights equal to the owner's. */
export class WeightFollower {
  private constructor(
    private readonly gpu: Gpu,
    readonly weights: ParameterArena,
    readonly buckets: readonly FlatRange[],
    private readonly packed: View,
    private readonly blocks: View,
    private readonly lists: readonly DispatchList[],
  ) {}

  static async build(kernels: KernelCache, weights: ParameterArena): Promise<WeightFollower> {
    const { gpu } = kernels;
    const buckets = weights.layout.buckets();
    const most = largest(buckets);
    const packed = await gpu.buffer('received differences', mostWords(most, 'differences'));
    const blocks = await gpu.buffer('received blocks', blocksOf(most));
    const lists: DispatchList[] = [];
    for (const { slab, offset, size } of buckets) {
      const list = new DispatchList();
      list.add({
        shader: 'unpack',
        entry: 'apply',
        constants: {},
        bindings: { packed, blocks, weights: weights.range(slab, offset, size) },
        groups: [blocksOf(size)],
        bytes: 11.5 * size,
      });
      await list.prepare(kernels);
      lists.push(list);
    }
    return new WeightFollower(gpu, weights, buckets, packed, blocks, lists);
  }

  /**
   * Queues the packed differences onto the bucket's weights. Returns the checksum that the new weights must have.
   * Throws LT_CLUSTER_FRAME, with nothing changed, if the bytes are malformed.
   */
  apply(bucket: number, packed: Uint8Array): Checksum {
    const { words, widths, offsets, checksum } = blockLayout(packed, this.buckets[bucket].size, 'differences');
    this.gpu.write(this.packed, words);
    this.gpu.write(
      this.blocks,
      offsets.map((offset, block) => offset * 16 + widths[block]),
    );
    this.lists[bucket].submit(this.gpu);
    return checksum;
  }

  /**
   * Queues the write of a bucket's weights, given as little-endian float32. Throws LT_CLUSTER_FRAME for a wrong number
   * of bytes.
   */
  load(bucket: number, bytes: Uint8Array): void {
    const { slab, offset, size } = this.buckets[bucket];
    if (bytes.byteLength !== 4 * size)
      throw new LantrainError('LT_CLUSTER_FRAME', `${bytes.byteLength} bytes for a bucket of ${size} weights`);
    const aligned = bytes.byteOffset % 4 === 0 ? bytes : bytes.slice();
    this.gpu.write(this.weights.range(slab, offset, size), new Uint32Array(aligned.buffer, aligned.byteOffset, size));
  }
}
