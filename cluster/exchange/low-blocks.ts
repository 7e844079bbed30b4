import { GRID_BLOCK, gridExponent, gridWords, LEAST_GRID_EXPONENT, MOST_GRID_EXPONENT } from '../../src/model/grid.js';
import { HEADER_WORDS, malformedBlocks, payloadOf } from './blocks.js';
import type { Checksum } from './checksum.js';

/**
 * The block format of the low wire: small integers of one bucket in blocks of 128, each with as few bits per value as its
 * values allow.
 *
 *     word 0      1        2         3         4
 *     | words   | values | check a | check b | grid bytes         | codes, 4 bits a block | block 0 | block 1 | ...
 *       all of                                 (only updates,       zeros up to a whole
 *       this                                   zeros up to a        word
 *                                              whole word)
 *
 * Sums are the 64-bit sums of gradients, in units of the grid (`src/model/grid.ts`); their check is `payloadChecksum` of the
 * bucket's grid bytes. Updates are the moves of weights, -3 to 3 (a reader accepts 4 bits); their check is `weightsChecksum` of
 * the new weights, and their grid bytes are those of the next step.
 *
 * A block takes 4 w words for its width of w bits, also the last one of a bucket, which may have 64 values only. Up to 32
 * bits, the block is four streams of bits. Value 4 i + l is bits i w to (i + 1) w of stream l, and word t of stream l is
 * word 4 t + l of the block: value i of all streams takes one vector operation.
 *
 *     width 5   | stream 0 | 1 | 2 | 3 | 0 | 1 | 2 | 3 | ...      word 0 of stream 0: v0, v4, v8, v12, v16, v20, 2 bits of v24
 *     width 64  | 128 x u32, low word  | 128 x i32, high word |
 *
 * All integers are little-endian, two's complement. The packer uses the smallest width that holds all values of a block; a
 * reader accepts wider ones.
 */
export const LOW_BLOCK_VALUES = 128;

/** The width in bits of each code. */
export const LOW_WIDTHS: readonly number[] = [0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 24, 32, 64];

/** The code of the widest block of updates. */
export const MOST_UPDATE_CODE = 3;

/** Codes in a word. */
const CODES = 8;

export type LowKind = 'sums' | 'updates';

export interface LowLayout {
  /** The packed bytes as words. */
  readonly words: Uint32Array;
  /** The grid bytes of the next step, up to a whole word; of updates only. */
  readonly grid: Uint8Array | undefined;
  /** Code of each block. */
  readonly codes: Uint8Array;
  /** Word offset of each block. */
  readonly offsets: Uint32Array;
  /** Of sums: checksum of the grid bytes that they are in units of. Of updates: checksum of the new weights. */
  readonly checksum: Checksum;
}

export function lowBlocksOf(values: number): number {
  return Math.ceil(values / LOW_BLOCK_VALUES);
}

/** Number of words before the codes. */
export function lowCodesAt(values: number, kind: LowKind): number {
  return HEADER_WORDS + (kind === 'updates' ? gridWords(values) : 0);
}

/** Number of words before the first block. */
export function lowHeadWords(values: number, kind: LowKind): number {
  return lowCodesAt(values, kind) + Math.ceil(lowBlocksOf(values) / CODES);
}

/** The largest number of words that `values` values can need. */
export function mostLowWords(values: number, kind: LowKind): number {
  return lowHeadWords(values, kind) + 4 * lowBlocksOf(values) * (kind === 'sums' ? 64 : LOW_WIDTHS[MOST_UPDATE_CODE]);
}

/**
 * Parses `packed`, which must hold exactly `values` values. Throws LT_CLUSTER_FRAME with the reason; any other bytes can be
 * unpacked. Copies only if `packed` is not aligned to a word of its buffer.
 */
export function lowLayout(packed: Uint8Array, values: number, kind: LowKind): LowLayout {
  const head = lowHeadWords(values, kind);
  const { aligned, words } = payloadOf(packed, values, head);
  const codesAt = lowCodesAt(values, kind);
  const grid = kind === 'updates' ? aligned.subarray(4 * HEADER_WORDS, 4 * codesAt) : undefined;
  if (grid) checkGridBytes(grid, values);
  const codes = codesOf(words.subarray(codesAt, head), values, kind);
  const offsets = new Uint32Array(codes.length);
  let at = head;
  for (let block = 0; block < codes.length; block++) {
    offsets[block] = at;
    at += 4 * LOW_WIDTHS[codes[block]];
  }
  if (at !== words.length) throw malformedBlocks(`the codes ask for ${at} words, ${words.length} received`);
  return { words, grid, codes, offsets, checksum: { a: words[2], b: words[3] } };
}

function codesOf(words: Uint32Array, values: number, kind: LowKind): Uint8Array {
  const codes = new Uint8Array(lowBlocksOf(values));
  const most = kind === 'updates' ? MOST_UPDATE_CODE : LOW_WIDTHS.length - 1;
  for (let block = 0; block < CODES * words.length; block++) {
    const code = (words[block >> 3] >>> (4 * (block & 7))) & 15;
    if (block < codes.length) codes[block] = code;
    else if (code !== 0) throw malformedBlocks('bits after the last code');
    if (code > most) throw malformedBlocks(`block ${block} of updates has the code ${code}`);
  }
  return codes;
}

/** Checks the grid bytes of `values` values, filled up to a whole word. Throws LT_CLUSTER_FRAME with the reason. */
export function checkGridBytes(bytes: Uint8Array, values: number): void {
  const blocks = values / GRID_BLOCK;
  if (bytes.length !== 4 * gridWords(values))
    throw malformedBlocks(`${bytes.length} grid bytes for a bucket of ${values} values`);
  for (let block = 0; block < blocks; block++) {
    const exponent = gridExponent(bytes[block]);
    if (exponent < LEAST_GRID_EXPONENT || exponent > MOST_GRID_EXPONENT)
      throw malformedBlocks(`grid block ${block} has the exponent ${exponent}`);
  }
  for (let rest = blocks; rest < bytes.length; rest++)
    if (bytes[rest] !== 0) throw malformedBlocks('bytes after the last grid byte');
}
