/** The reference of what the GPU and the reducer do with blocks (`cluster/exchange/blocks.ts`). */
import { BLOCK_VALUES, type BlockLayout, blockLayout, blockSize, packBlocks } from '../../cluster/exchange/blocks.js';
import { equalChecksums, weightsChecksum } from '../../cluster/exchange/checksum.js';
import { LantrainError } from '../../src/errors.js';

/** Packs the differences from the weights `before` to the weights `after`, both given as bits. */
export function packDifferences(before: Uint32Array, after: Uint32Array): Uint8Array {
  if (before.length !== after.length) throw new RangeError(`${before.length} weights before, ${after.length} after`);
  const low = Uint32Array.from(after, (bits, i) => (orderKey(bits) - orderKey(before[i])) >>> 0);
  return packBlocks(
    low,
    low.map((word) => (word | 0) >> 31),
    weightsChecksum(after),
  );
}

/** The integers of `packed` as low and high words. Throws LT_CLUSTER_FRAME. */
export function unpackSums(packed: Uint8Array, values: number): { low: Uint32Array; high: Uint32Array } {
  const low = new Uint32Array(values);
  const high = new Uint32Array(values);
  addBlocks(blockLayout(packed, values, 'sums'), low, high);
  return { low, high };
}

/**
 * Applies packed differences to `weights`, given as bits, in place. Throws LT_CLUSTER_FRAME when the bytes are malformed
 * (nothing has changed then), or when the result is not what was packed, because `weights` were others.
 */
export function applyDifferences(packed: Uint8Array, weights: Uint32Array): void {
  const layout = blockLayout(packed, weights.length, 'differences');
  const keys = weights.map(orderKey);
  addBlocks(layout, keys, new Uint32Array(keys.length));
  weights.set(keys.map(orderKey));
  if (!equalChecksums(weightsChecksum(weights), layout.checksum))
    throw new LantrainError('LT_CLUSTER_FRAME', 'differences of other weights than these');
}

/**
 * Maps the bits of a float to an integer with the same order (-0 just below +0); it is its own inverse. Neighbouring floats
 * map to neighbouring integers.
 */
export function orderKey(bits: number): number {
  return (bits ^ ((bits >> 31) & 0x7fffffff)) >>> 0;
}

/** Adds the integers of checked blocks to `low` and `high`, modulo 2^64. */
export function addBlocks(layout: BlockLayout, low: Uint32Array, high: Uint32Array): void {
  const { buffer, byteOffset, byteLength } = layout.words;
  const bytes = new Int8Array(buffer, byteOffset, byteLength);
  const halves = new Uint16Array(buffer, byteOffset, byteLength / 2);
  const words = new Int32Array(buffer, byteOffset, byteLength / 4);
  // Signed words throughout: V8 holds an unsigned one above 2^31 as a float.
  const lows = new Int32Array(low.buffer, low.byteOffset, low.length);
  const highs = new Int32Array(high.buffer, high.byteOffset, high.length);
  const add = (i: number, l: number, h: number) => {
    const before = lows[i];
    const sum = (before + l) | 0;
    lows[i] = sum;
    highs[i] = highs[i] + h + (((before & l) | ((before | l) & ~sum)) >>> 31);
  };
  layout.widths.forEach((width, block) => {
    const at = layout.offsets[block];
    const start = block * BLOCK_VALUES;
    const count = blockSize(block, low.length);
    const rest = 4 * at + count * (width === 3 ? 2 : 4);
    if (width === 0) return;
    for (let i = 0; i < count; i++) {
      let value = 0;
      if (width === 1) value = bytes[4 * at + i];
      else if (width === 2) value = (halves[2 * at + i] << 16) >> 16;
      else if (width === 3) value = halves[2 * at + i] | (bytes[rest + i] << 16);
      else if (width > 3) value = words[at + i];
      let upper = value >> 31;
      if (width === 5) upper = bytes[rest + i];
      else if (width === 8) upper = words[at + count + i];
      add(start + i, value, upper);
    }
  });
}
