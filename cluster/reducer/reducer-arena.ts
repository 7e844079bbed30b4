import { LantrainError } from '../../src/errors.js';
import { type BlockLayout, blockLayout, HEADER_WORDS, headWords, mostWords } from '../exchange/blocks.js';
import { type Checksum, equalChecksums, payloadChecksum } from '../exchange/checksum.js';
import { type AddBlocks, openKernel, type SharedMemory, sharedMemory } from './reducer-kernel.js';

/** A packed contribution in a buffer. `terms`: see `Reducer.add`. */
export interface PackedContribution {
  readonly buffer: ArrayBuffer;
  readonly offset: number;
  readonly length: number;
  readonly terms: number;
  /** The sender's checksum of the bytes; undefined: not verified. */
  readonly checksum: Checksum | undefined;
}

/** A request of the reducer to a thread: take over an arena, add to a slot, or set a slot to zero. */
export type ReducerRequest =
  | { readonly arena: number; readonly memory: SharedMemory; readonly sizes: readonly number[] }
  | {
      readonly arena: number;
      readonly id: number;
      readonly slot: number;
      readonly add: PackedContribution | undefined;
    };

/** The answer to an addition or to a clearing. */
export interface ReducerReply {
  readonly id: number;
  /** Why nothing was added; undefined if all was. */
  readonly refused: string | undefined;
}

/**
 * The 64-bit sums of some buckets in one shared memory, each bucket in two planes. WebAssembly reads only its own
 * memory, so a contribution is first copied into the inbox:
 *
 *     | inbox, as large as the largest contribution | low words | high words | low words | high words | ...
 *                                                     slot 0                   slot 1
 */
export class ReducerArena {
  readonly #bytes: Uint8Array;
  readonly #starts: readonly number[];
  readonly #kernel: AddBlocks;

  constructor(
    readonly memory: SharedMemory,
    /** Number of values of each slot. */
    readonly sizes: readonly number[],
  ) {
    this.#bytes = new Uint8Array(memory.buffer);
    this.#starts = startsOf(sizes);
    this.#kernel = openKernel(memory);
  }

  static allocate(sizes: readonly number[]): SharedMemory {
    return sharedMemory(startsOf(sizes)[sizes.length]);
  }

  /** Views of a slot's sums. */
  static words(memory: SharedMemory, sizes: readonly number[], slot: number): { low: Uint32Array; high: Uint32Array } {
    const start = startsOf(sizes)[slot];
    const size = sizes[slot];
    return {
      low: new Uint32Array(memory.buffer, start, size),
      high: new Uint32Array(memory.buffer, start + 4 * size, size),
    };
  }

  /**
   * Adds a whole contribution, or nothing. Returns why nothing was added: its bytes have another checksum, are
   * malformed, or hold a value beyond `terms` * 2^52, which `terms` fixed-point values cannot add up to.
   */
  add(slot: number, packed: Uint8Array, terms: number, checksum?: Checksum): string | undefined {
    const values = this.sizes[slot];
    if (packed.byteLength > 4 * mostWords(values, 'sums'))
      return 'malformed blocks: more bytes than the bucket can take';
    this.#bytes.set(packed);
    const inbox = this.#bytes.subarray(0, packed.byteLength);
    if (checksum !== undefined && !equalChecksums(payloadChecksum(inbox), checksum))
      return 'its payload does not match its checksum';
    let layout: BlockLayout;
    try {
      layout = blockLayout(inbox, values, 'sums');
    } catch (error) {
      if (error instanceof LantrainError) return error.message;
      throw error;
    }
    const excess = firstBeyond(layout, values, terms);
    if (excess !== undefined) return `value ${excess} exceeds what ${terms} gradients can add up to`;
    const low = this.#starts[slot];
    this.#kernel(4 * HEADER_WORDS, 4 * headWords(values), values, low, low + 4 * values);
    return undefined;
  }

  clear(slot: number): void {
    this.#bytes.fill(0, this.#starts[slot], this.#starts[slot + 1]);
  }
}

/** Byte offset of each slot, then of the end. */
function startsOf(sizes: readonly number[]): number[] {
  const starts = [Math.max(...sizes.map((size) => Math.ceil(mostWords(size, 'sums') / 64) * 256))];
  for (const size of sizes) starts.push(starts[starts.length - 1] + 8 * size);
  return starts;
}

/** Index of the first value with a magnitude above `terms` * 2^52. Blocks narrower than 8 bytes cannot hold one. */
function firstBeyond({ words, widths, offsets }: BlockLayout, values: number, terms: number): number | undefined {
  const bound = terms * 2 ** 20;
  for (let block = 0; block < widths.length; block++) {
    if (widths[block] !== 8) continue;
    const size = Math.min(256, values - 256 * block);
    for (let i = 0; i < size; i++) {
      const high = words[offsets[block] + size + i] | 0;
      if (high >= -bound && (high < bound || (high === bound && words[offsets[block] + i] === 0))) continue;
      return 256 * block + i;
    }
  }
  return undefined;
}
