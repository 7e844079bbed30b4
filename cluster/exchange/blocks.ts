import { LantrainError } from '../../src/errors.js';
import type { Checksum } from './checksum.js';

/**
 * The block format: the integers of one bucket in blocks of 256, each with as few bytes per value as its values allow.
 * It is exact. Four consecutive values are whole words of each plane, on the GPU (`shaders/pack.wgsl`,
 * `shaders/unpack.wgsl`) as well.
 *
 *     word 0      1        2         3         4                         4 + ceil(blocks / 4)
 *     | words   | values | check a | check b | widths, a byte a block  | block 0 | block 1 | ...
 *       all of             of the new weights  0, 1, 2, 3, 4, 5 or 8;
 *       this               (sums: 0, 0)        zeros up to a whole word
 *
 * A block of n values (256; the last one of a bucket 64, 128, 192 or 256) takes n * width bytes, in planes:
 *
 *     width 1   | n x i8             |
 *     width 2   | n x i16            |
 *     width 3   | n x u16, low bits  | n x i8, high bits  |
 *     width 4   | n x i32            |
 *     width 5   | n x u32, low word  | n x i8, high bits  |
 *     width 8   | n x u32, low word  | n x i32, high word |
 *
 * All integers are little-endian, two's complement. The packer uses the smallest width that holds all values of a
 * block; a reader accepts wider ones. Sums use every width. Differences of weights are 32-bit numbers, so their widths
 * are 0 to 4.
 */
export const BLOCK_VALUES = 256;
export const HEADER_WORDS = 4;

export type BlockKind = 'sums' | 'differences';

/** The size of every bucket is a multiple of this many values. */
const GRANULE = 64;

export interface BlockLayout {
  /** The packed bytes as words. */
  readonly words: Uint32Array;
  /** Bytes per value of each block. */
  readonly widths: Uint8Array;
  /** Word offset of each block. */
  readonly offsets: Uint32Array;
  /** Checksum of the new weights. */
  readonly checksum: Checksum;
}

export function blocksOf(values: number): number {
  return Math.ceil(values / BLOCK_VALUES);
}

/** Number of words before the first block. */
export function headWords(values: number): number {
  return HEADER_WORDS + Math.ceil(blocksOf(values) / 4);
}

/** The largest number of words that `values` values can need. */
export function mostWords(values: number, kind: BlockKind): number {
  return headWords(values) + values * (kind === 'sums' ? 2 : 1);
}

/**
 * Parses `packed`, which must hold exactly `values` values. Throws LT_CLUSTER_FRAME with the reason; any other bytes
 * can be unpacked. Copies only if `packed` is not aligned to a word of its buffer.
 */
export function blockLayout(packed: Uint8Array, values: number, kind: BlockKind): BlockLayout {
  const head = headWords(values);
  const { aligned, words } = payloadOf(packed, values, head);
  if (kind === 'sums' && (words[2] | words[3]) !== 0) throw malformedBlocks('sums with a checksum of weights');
  const blocks = blocksOf(values);
  const bytes = aligned.subarray(4 * HEADER_WORDS, 4 * head);
  const most = kind === 'sums' ? 8 : 4;
  const offsets = new Uint32Array(blocks);
  let at = head;
  for (let block = 0; block < blocks; block++) {
    const width = bytes[block];
    if (width > most || width === 6 || width === 7) throw malformedBlocks(`block ${block} has the width ${width}`);
    offsets[block] = at;
    at += (blockSize(block, values) / 4) * width;
  }
  for (let rest = blocks; rest < bytes.length; rest++)
    if (bytes[rest] !== 0) throw malformedBlocks('bytes after the last width');
  if (at !== words.length) throw malformedBlocks(`the widths ask for ${at} words, ${words.length} received`);
  return { words, widths: bytes.subarray(0, blocks), offsets, checksum: { a: words[2], b: words[3] } };
}

/**
 * A payload of both wires, aligned, as bytes and as words, of which `head` stand before the first block. Throws
 * LT_CLUSTER_FRAME unless its first two words are the number of its words and `values`.
 */
export function payloadOf(
  packed: Uint8Array,
  values: number,
  head: number,
): { readonly aligned: Uint8Array; readonly words: Uint32Array } {
  if (packed.byteLength % 4 !== 0 || packed.byteLength < 4 * head)
    throw malformedBlocks(`${packed.byteLength} bytes cannot hold ${values} values`);
  const aligned = packed.byteOffset % 4 === 0 ? packed : packed.slice();
  const words = new Uint32Array(aligned.buffer, aligned.byteOffset, aligned.byteLength / 4);
  if (words[0] !== words.length) throw malformedBlocks(`${words[0]} words announced, ${words.length} received`);
  if (words[1] !== values) throw malformedBlocks(`${words[1]} values announced, the bucket has ${values}`);
  return { aligned, words };
}

/** The number of values of a block in a bucket of `values`. */
export function blockSize(block: number, values: number): number {
  return Math.min(BLOCK_VALUES, values - block * BLOCK_VALUES);
}

export function malformedBlocks(what: string): LantrainError {
  return new LantrainError('LT_CLUSTER_FRAME', `malformed blocks: ${what}`);
}

/** Packs 64-bit integers, given as low and high words, into the same bytes as the GPU. */
export function packSums(low: Uint32Array, high: Uint32Array): Uint8Array {
  if (low.length !== high.length) throw new RangeError(`${low.length} low words, ${high.length} high words`);
  return packBlocks(low, high, { a: 0, b: 0 });
}

/** Values of the loss bucket: the loss sum, then how often loss scales were halved; the others are zero. */
export const LOSS_BUCKET_VALUES = GRANULE;

/** Packs a loss sum (`StepReport.lossFixed`) and the halvings of loss scales as the loss bucket. */
export function packLoss(sum: bigint, halvings = 0): Uint8Array {
  const low = new Uint32Array(LOSS_BUCKET_VALUES);
  const high = new Uint32Array(LOSS_BUCKET_VALUES);
  low[0] = Number(BigInt.asUintN(32, sum));
  high[0] = Number(BigInt.asUintN(32, sum >> 32n));
  low[1] = halvings;
  return packSums(low, high);
}

/** The contents of the loss bucket, given as its words. */
export function lossOf(low: Uint32Array, high: Uint32Array): { readonly loss: bigint; readonly halvings: number } {
  return { loss: (BigInt(high[0] | 0) << 32n) + BigInt(low[0]), halvings: low[1] };
}

/** Packs 64-bit integers, given as low and high words, with the checksum of new weights (zeros for sums). */
export function packBlocks(low: Uint32Array, high: Uint32Array, checksum: Checksum): Uint8Array {
  const values = low.length;
  if (values === 0 || values % GRANULE !== 0) throw new RangeError(`${values} values are no bucket`);
  const blocks = blocksOf(values);
  const widths = Uint8Array.from({ length: blocks }, (_, block) => {
    let width = 0;
    const start = block * BLOCK_VALUES;
    for (let i = start; i < start + blockSize(block, values); i++) width = Math.max(width, widthOf(low[i], high[i]));
    return width;
  });
  const head = headWords(values);
  const total = widths.reduce((n, width, block) => n + (blockSize(block, values) / 4) * width, head);
  const packed = new Uint8Array(4 * total);
  new Uint32Array(packed.buffer).set([total, values, checksum.a, checksum.b]);
  packed.set(widths, 4 * HEADER_WORDS);
  let at = 4 * head;
  const put = (plane: Uint32Array, start: number, count: number, bytes: number, shift = 0) => {
    for (let i = start; i < start + count; i++)
      for (let b = 0; b < bytes; b++) packed[at++] = plane[i] >>> (8 * b + shift);
  };
  widths.forEach((width, block) => {
    const start = block * BLOCK_VALUES;
    const count = blockSize(block, values);
    if (width === 3) {
      put(low, start, count, 2);
      put(low, start, count, 1, 16);
    } else {
      put(low, start, count, Math.min(width, 4));
      if (width > 4) put(high, start, count, width - 4);
    }
  });
  return packed;
}

/** The smallest number of bytes that holds the integer. */
export function widthOf(low: number, high: number): number {
  const sign = (high | 0) >> 31;
  const [l, h] = [(low ^ sign) >>> 0, (high ^ sign) >>> 0];
  if (h >= 2 ** 7) return 8;
  if (h > 0 || l >= 2 ** 31) return 5;
  if (l >= 2 ** 23) return 4;
  if (l >= 2 ** 15) return 3;
  if (l >= 2 ** 7) return 2;
  return l > 0 || sign !== 0 ? 1 : 0;
}
