import type { Gpu } from '../gpu/device.js';
import { slice, type View } from '../gpu/view.js';
import type { ParameterLayout } from './layout.js';

/*
 * The grid of the low wire. Each block of 64 consecutive values of the flat array has an exponent E: gradients of the block
 * are rounded to multiples of 2^E. A block has one byte:
 *
 *     bits 0 to 6   E + 64
 *     bit 7         whether weight decay applies to the block's values
 */

/** Values that share an exponent. */
export const GRID_BLOCK = 64;
/** Values whose bytes share a word. */
export const GRID_WORD = 4 * GRID_BLOCK;

export const LEAST_GRID_EXPONENT = -40;
export const MOST_GRID_EXPONENT = 8;

const EXPONENT_BIAS = 64;
const EXPONENT_BITS = 0x7f;
const DECAYS_BIT = 0x80;

/** The exponent in a grid byte. */
export function gridExponent(byte: number): number {
  return (byte & EXPONENT_BITS) - EXPONENT_BIAS;
}

/** The grid byte of a block. */
export function gridByte(exponent: number, decays: boolean): number {
  return (exponent + EXPONENT_BIAS) | (decays ? DECAYS_BIT : 0);
}

/** Words of the grid bytes of `values` values, a multiple of 64. */
export function gridWords(values: number): number {
  return Math.ceil(values / GRID_WORD);
}

/** The grid bytes of all parameters, in one buffer a slab. Bytes after the last block of a slab are zero. */
export class GridArena {
  private constructor(
    readonly layout: ParameterLayout,
    readonly slabs: readonly View[],
  ) {}

  static async allocate(gpu: Gpu, layout: ParameterLayout, label = 'grid'): Promise<GridArena> {
    const slabs: View[] = [];
    for (const [i, size] of layout.slabSizes.entries()) slabs.push(await gpu.buffer(`${label}.${i}`, gridWords(size)));
    return new GridArena(layout, slabs);
  }

  /** The bytes of `size` values of a slab, from `offset` on, a multiple of a bucket's values. */
  range(slab: number, offset: number, size: number): View {
    return slice(this.slabs[slab], offset / GRID_WORD, gridWords(size));
  }

  release(gpu: Gpu): void {
    for (const view of this.slabs) gpu.release(view);
  }
}
