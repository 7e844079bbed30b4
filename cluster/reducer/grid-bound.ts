import { GRID_BLOCK, gridExponent } from '../../src/model/grid.js';
import { powerOfTwo } from '../../src/util/portable-math.js';
import { type Checksum, payloadChecksum } from '../exchange/checksum.js';
import { checkGridBytes, LOW_BLOCK_VALUES, LOW_WIDTHS, type LowLayout } from '../exchange/low-blocks.js';

/** Magnitudes of gradients are below 2^12, so below 2^(12 - E) units of 2^E. */
const GRADIENT_BITS = 12;

/** What the reducer knows of a bucket's grid: the checksum of its bytes, and how large sums can become. */
export class GridBound {
  readonly checksum: Checksum;
  /** Of each grid block, the logarithm of the bound of one gradient. */
  readonly #bits: Int8Array;

  /** `bytes`: the grid bytes of `values` values, whole words. Throws LT_CLUSTER_FRAME for others. */
  constructor(
    bytes: Uint8Array,
    readonly values: number,
  ) {
    checkGridBytes(bytes, values);
    this.checksum = payloadChecksum(bytes);
    this.#bits = Int8Array.from({ length: values / GRID_BLOCK }, (_, i) => GRADIENT_BITS - gridExponent(bytes[i]));
  }

  /**
   * Index of the first value of sums whose magnitude exceeds what `terms` gradients can add up to. Blocks that are too
   * narrow to hold one are not read.
   */
  firstBeyond(layout: LowLayout, terms: number): number | undefined {
    const { codes } = layout;
    const termBits = 31 - Math.clz32(terms);
    for (let block = 0; block < codes.length; block++) {
      const width = LOW_WIDTHS[codes[block]];
      const first = (LOW_BLOCK_VALUES / GRID_BLOCK) * block;
      const last = Math.min(first + 1, this.#bits.length - 1);
      if (width - 1 <= Math.min(this.#bits[first], this.#bits[last]) + termBits) continue;
      const value = this.#firstBeyondIn(layout, block, width, terms);
      if (value !== undefined) return value;
    }
    return undefined;
  }

  #firstBeyondIn({ words, offsets }: LowLayout, block: number, width: number, terms: number): number | undefined {
    const start = block * LOW_BLOCK_VALUES;
    const end = Math.min(start + LOW_BLOCK_VALUES, this.values);
    for (let value = start; value < end; value++) {
      const [high, low] = valueAt(words, offsets[block], value - start, width);
      const bound = terms * powerOfTwo(this.#bits[Math.floor(value / GRID_BLOCK)]);
      const near = Math.abs(high * 2 ** 32 + low);
      // Rounding to float64 keeps the order, so only values that seem to be at the bound or beyond need a closer look.
      if (near < bound) continue;
      const exact = (BigInt(high) << 32n) + BigInt(low);
      if (exact > BigInt(bound) || -exact > BigInt(bound)) return value;
    }
    return undefined;
  }
}

/** High (signed) and low (unsigned) word of a value of a block. */
function valueAt(words: Uint32Array, at: number, value: number, width: number): readonly [number, number] {
  if (width === 64) return [words[at + LOW_BLOCK_VALUES + value] | 0, words[at + value]];
  const bit = (value >> 2) * width;
  const word = at + 4 * (bit >> 5) + (value & 3);
  const shift = bit & 31;
  // The low 32 bits from the value's first one on; what they lack lies in the stream's next word.
  let bits = words[word] >>> shift;
  if (shift + width > 32) bits |= words[word + 4] << (32 - shift);
  const signed = (bits << (32 - width)) >> (32 - width);
  return [signed >> 31, signed >>> 0];
}
