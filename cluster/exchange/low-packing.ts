import type { KernelCache } from '../../src/gpu/kernel.js';
import { type Dispatch, DispatchList } from '../../src/gpu/list.js';
import { slice, type View } from '../../src/gpu/view.js';
import { portably } from '../../src/model/arithmetic.js';
import { HEADER_WORDS } from './blocks.js';
import { lowBlocksOf, mostLowWords } from './low-blocks.js';
import { PackedReader, type Packing } from './packed-reader.js';

/** The GPU's side of the low wire: dispatches of `pack_low.wgsl` and `unpack_low.wgsl`, and who packs with them. */

/** Threads of a workgroup. */
const THREADS = 64;
/** Blocks of a workgroup of `sumWidths`. */
const WIDTHS_BLOCKS = 8;
/** Values of a thread of `apply`, and of `advance`. */
const APPLY_VALUES = 32;
const ADVANCE_VALUES = 8;

/** Groups of four values per workgroup of `checksum.wgsl`: threads times groups per thread. */
const CHECKSUM_FOURS = 64 * 16;

const threads = (count: number): [number] => [Math.ceil(count / THREADS)];
const inArithmetic = (portable: boolean, dispatch: Dispatch) => (portable ? portably(dispatch) : dispatch);

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

/** Like `checksumDispatch`, of the weights `s` after `moves` (4 bits a value) in units of `unit`, a uniform f32. */
export function movedChecksumDispatch(
  { s, moves, unit }: MovedWeights,
  sums: View,
  at: number,
  portable: boolean,
): Dispatch {
  const plain = checksumDispatch(s, sums, at);
  const bindings = { ...plain.bindings, moves, unit };
  return inArithmetic(portable, { ...plain, bindings, defines: ['moved'], bytes: 1.125 * s.size });
}

/** Weights, their moves as 4 bits a value, and the moves' unit 2^F in a uniform. */
export interface MovedWeights {
  readonly s: View;
  readonly moves: View;
  readonly unit: View;
}

/** A dispatch that makes the moves, in place. */
export function advanceDispatch({ s, moves, unit }: MovedWeights, portable: boolean): Dispatch {
  return inArithmetic(portable, {
    shader: 'unpack_low',
    entry: 'advance',
    constants: {},
    bindings: { weights: s, moves, unit },
    groups: threads(s.size / 4 / ADVANCE_VALUES),
    bytes: 2.125 * s.size,
  });
}

/** A dispatch that makes the moves of a packed update, in place. `blocks`: offset * 16 + code of each. */
export function applyDispatch(weights: View, packed: View, blocks: View, unit: View, portable: boolean): Dispatch {
  const values = weights.size / 4;
  return inArithmetic(portable, {
    shader: 'unpack_low',
    entry: 'apply',
    constants: {},
    bindings: { packed, blocks, weights, unit },
    groups: threads(values / APPLY_VALUES),
    bytes: 8.5 * values,
  });
}

/** Packs sums of the low wire on the GPU and reads back only the packed bytes. Their check words are 0. */
export class LowSumPacker {
  private constructor(
    readonly kernels: KernelCache,
    private readonly blocks: View,
    private readonly reader: PackedReader,
  ) {}

  /** Builds a packer for buckets of at most `values` values. */
  static async build(kernels: KernelCache, values: number): Promise<LowSumPacker> {
    const blocks = await kernels.gpu.buffer('sums blocks', lowBlocksOf(values));
    const reader = await PackedReader.create(kernels.gpu, 'sums', mostLowWords(values, 'sums'));
    return new LowSumPacker(kernels, blocks, reader);
  }

  /** Prepares the packing of one bucket, of the low words `a` and high words `b`. */
  async prepare(a: View, b: View): Promise<Packing> {
    const values = a.size / 4;
    const { packed } = this.reader;
    const blocks = slice(this.blocks, 0, lowBlocksOf(values));
    const pack = { shader: 'pack_low', constants: {} };
    const list = new DispatchList();
    const groups: [number] = [Math.ceil(lowBlocksOf(values) / WIDTHS_BLOCKS)];
    list.add({ ...pack, entry: 'sumWidths', bindings: { a, b, blocks }, groups, bytes: 8 * values });
    list.add({ ...pack, entry: 'sumOffsets', bindings: { a, blocks, packed }, groups: [1] });
    list.add({
      ...pack,
      entry: 'sumScatter',
      bindings: { a, b, blocks, packed },
      groups: threads(lowBlocksOf(values)),
      bytes: 5 * values,
    });
    await list.prepare(this.kernels);
    const most = mostLowWords(values, 'sums');
    return { list, most, words: most };
  }

  /** The packed bytes after `headroom` bytes, which are left free for a frame's header. */
  pack(packing: Packing, headroom = 0): Promise<Uint8Array> {
    return this.reader.pack(packing, headroom);
  }
}

/** The owner's packer of updates: moves, the next grid bytes and the checksum of the new weights. */
export class UpdatePacker {
  private constructor(
    readonly kernels: KernelCache,
    private readonly portable: boolean,
    private readonly blocks: View,
    private readonly reader: PackedReader,
  ) {}

  /** Builds a packer for buckets of at most `values` values. `portable`: the run's arithmetic is portable. */
  static async build(kernels: KernelCache, values: number, portable: boolean): Promise<UpdatePacker> {
    const blocks = await kernels.gpu.buffer('update blocks', lowBlocksOf(values));
    const reader = await PackedReader.create(kernels.gpu, 'updates', mostLowWords(values, 'updates'));
    return new UpdatePacker(kernels, portable, blocks, reader);
  }

  /**
   * Prepares the packing of one bucket of n values: `moves` (n / 8 words, 4 bits a value), the words `grid` of the next
   * step's grid bytes, the weights `s` before the moves, and the uniform f32 `unit`, 2^F.
   */
  async prepare(moves: View, grid: View, s: View, unit: View): Promise<Packing> {
    const values = s.size / 4;
    const { packed } = this.reader;
    const blocks = slice(this.blocks, 0, lowBlocksOf(values));
    const pack = { shader: 'pack_low', constants: {} };
    const list = new DispatchList();
    const groups = threads(lowBlocksOf(values));
    list.add({ ...pack, entry: 'moveWidths', bindings: { moves, blocks }, groups, bytes: values / 2 });
    list.add({ ...pack, entry: 'moveOffsets', bindings: { moves, grid, blocks, packed }, groups: [1] });
    list.add({ ...pack, entry: 'moveScatter', bindings: { moves, blocks, packed }, groups, bytes: values });
    list.add(movedChecksumDispatch({ s, moves, unit }, packed, HEADER_WORDS - 2, this.portable));
    await list.prepare(this.kernels);
    const most = mostLowWords(values, 'updates');
    return { list, most, words: most };
  }

  /** The packed bytes after `headroom` bytes, which are left free for a frame's header. */
  pack(packing: Packing, headroom = 0): Promise<Uint8Array> {
    return this.reader.pack(packing, headroom);
  }
}
