import { LantrainError } from '../../src/errors.js';
import { type BlockLayout, blockLayout, HEADER_WORDS, headWords, mostWords } from '../exchange/blocks.js';
import { type Checksum, equalChecksums, payloadChecksum } from '../exchange/checksum.js';
import {
  LOW_BLOCK_VALUES,
  lowBlocksOf,
  lowCodesAt,
  lowHeadWords,
  lowLayout,
  mostLowWords,
} from '../exchange/low-blocks.js';
import { GridBound } from './grid-bound.js';
import { type LowKernel, openLowKernel } from './low-kernel.js';
import { type AddBlocks, openKernel } from './reducer-kernel.js';
import { type SharedMemory, sharedMemory } from './web-assembly.js';

/** A packed contribution in a buffer. `terms`: see `Reducer.add`. */
export interface PackedContribution {
  readonly buffer: ArrayBuffer;
  readonly offset: number;
  readonly length: number;
  readonly terms: number;
  /** The sender's checksum of the bytes; undefined: not verified. */
  readonly checksum: Checksum | undefined;
}

/** One bucket of an arena. */
export interface SlotShape {
  /** Number of values, a multiple of 64. */
  readonly size: number;
  /** Whether contributions are in the low wire's format, in units of a grid. */
  readonly low: boolean;
}

/**
 * The 64-bit sums of some buckets in one shared memory, each bucket in two planes. WebAssembly reads only its own
 * memory, so a contribution is first copied into the inbox:
 *
 *     | inbox, as large as the largest contribution | low words | high words | low words | high words | ...
 *                                                     slot 0                   slot 1
 *
 * Planes have space for whole blocks of the low wire. What a block has beyond a bucket's values is added there, and nobody
 * reads it.
 */
export class ReducerArena {
  readonly #bytes: Uint8Array;
  readonly #starts: readonly number[];
  readonly #kernel: AddBlocks;
  readonly #lowKernel: LowKernel | undefined;
  readonly #grids = new Map<number, GridBound>();

  constructor(
    readonly memory: SharedMemory,
    readonly slots: readonly SlotShape[],
  ) {
    this.#bytes = new Uint8Array(memory.buffer);
    this.#starts = startsOf(slots);
    this.#kernel = openKernel(memory);
    if (slots.some(({ low }) => low)) this.#lowKernel = openLowKernel(memory);
  }

  static allocate(slots: readonly SlotShape[]): SharedMemory {
    return sharedMemory(startsOf(slots)[slots.length]);
  }

  /** Views of a slot's sums. */
  static words(
    memory: SharedMemory,
    slots: readonly SlotShape[],
    slot: number,
  ): { low: Uint32Array; high: Uint32Array } {
    const start = startsOf(slots)[slot];
    const { size } = slots[slot];
    return {
      low: new Uint32Array(memory.buffer, start, size),
      high: new Uint32Array(memory.buffer, start + planeBytes(size), size),
    };
  }

  /** From now on, contributions to the slot must be in units of the grid with these bytes, whole words. */
  setGrid(slot: number, bytes: Uint8Array): void {
    this.#grids.set(slot, new GridBound(bytes, this.slots[slot].size));
  }

  /**
   * Adds a whole contribution, or nothing. Returns why nothing was added: its bytes have another checksum, are
   * malformed, are in units of another grid, or hold a value that `terms` gradients, each below 2^12, cannot add up to.
   * `isFirst`: the values replace what is in the slot.
   */
  add(slot: number, packed: Uint8Array, terms: number, checksum?: Checksum, isFirst = false): string | undefined {
    const { low } = this.slots[slot];
    if (packed.byteLength > 4 * mostSlotWords(this.slots[slot]))
      return 'malformed blocks: more bytes than the bucket can take';
    this.#bytes.set(packed);
    const inbox = this.#bytes.subarray(0, packed.byteLength);
    if (checksum !== undefined && !equalChecksums(payloadChecksum(inbox), checksum))
      return 'its payload does not match its checksum';
    try {
      return low ? this.#addLow(slot, inbox, terms, isFirst) : this.#addExact(slot, inbox, terms, isFirst);
    } catch (error) {
      if (error instanceof LantrainError) return error.message;
      throw error;
    }
  }

  #addExact(slot: number, inbox: Uint8Array, terms: number, isFirst: boolean): string | undefined {
    const values = this.slots[slot].size;
    const layout = blockLayout(inbox, values, 'sums');
    const excess = firstBeyond(layout, values, terms);
    if (excess !== undefined) return beyond(excess, terms);
    const low = this.#starts[slot];
    if (isFirst) this.clear(slot);
    this.#kernel(4 * HEADER_WORDS, 4 * headWords(values), values, low, low + planeBytes(values));
    return undefined;
  }

  #addLow(slot: number, inbox: Uint8Array, terms: number, isFirst: boolean): string | undefined {
    const values = this.slots[slot].size;
    const layout = lowLayout(inbox, values, 'sums');
    const grid = this.#grids.get(slot);
    if (grid === undefined || !equalChecksums(layout.checksum, grid.checksum))
      return 'its sums are in units of another grid';
    const excess = grid.firstBeyond(layout, terms);
    if (excess !== undefined) return beyond(excess, terms);
    const low = this.#starts[slot];
    this.#lowKernel?.[isFirst ? 'put' : 'add'](
      4 * lowCodesAt(values, 'sums'),
      4 * lowHeadWords(values, 'sums'),
      lowBlocksOf(values),
      low,
      low + planeBytes(values),
    );
    return undefined;
  }

  clear(slot: number): void {
    this.#bytes.fill(0, this.#starts[slot], this.#starts[slot + 1]);
  }
}

const beyond = (value: number, terms: number) => `value ${value} exceeds what ${terms} gradients can add up to`;

function planeBytes(size: number): number {
  return 4 * Math.ceil(size / LOW_BLOCK_VALUES) * LOW_BLOCK_VALUES;
}

function mostSlotWords({ size, low }: SlotShape): number {
  return low ? mostLowWords(size, 'sums') : mostWords(size, 'sums');
}

/** Byte offset of each slot, then of the end. */
function startsOf(slots: readonly SlotShape[]): number[] {
  const starts = [Math.max(...slots.map((slot) => Math.ceil(mostSlotWords(slot) / 64) * 256))];
  for (const { size } of slots) starts.push(starts[starts.length - 1] + 2 * planeBytes(size));
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
