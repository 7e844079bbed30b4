import { type Key, threefry } from '../util/random.js';
import { bitsOf, settle } from './arithmetic.js';
import { fromFixedPoint } from './fixed-point.js';
import type { Floats } from './rows.js';

/*
 * The arithmetic of the low wire: the exponents of the grid, the rounding of gradients to it, and the moves of the weights. Values
 * are float32, and `unit` is the step of the moves, 2^F.
 */
const f32 = Math.fround;

/** Values that share an exponent. */
const GRID_BLOCK = 64;
const LEAST_GRID_EXPONENT = -40;
const MOST_GRID_EXPONENT = 8;
/** Random bits of a value's rounding. */
const RANDOM_BITS = 16;
/** Shifts to the right by more leave nothing of a mantissa of 24 bits, and no carry out of the random bits. */
const MOST_SHIFT = 40;
const MOST_MOVE = 3;
/** 1.5 * 2^23: a sum of it and a small number has no bits after the point. */
const WHOLE = 12582912;

/**
 * The exponent E of each block of 64 values of v, the second moments [n] after an update. `factor`: 1 / (64 (1 - beta2^t) M), as
 * float32, after update t of steps of M micro-batches.
 */
export function gridExponents(v: Floats, factor: number): number[] {
  return Array.from({ length: Math.ceil(v.length / GRID_BLOCK) }, (_, block) => {
    let sum = 0;
    for (let at = block * GRID_BLOCK; at < (block + 1) * GRID_BLOCK; at += 4) {
      const [x, y, z, w] = [at, at + 1, at + 2, at + 3].map((i) => (i < v.length ? v[i] : 0));
      sum = f32(sum + f32(f32(x + y) + f32(z + w)));
    }
    return exponentOf(settle(sum * factor));
  });
}

/** Half of the square root's power of two. */
function exponentOf(square: number): number {
  const biased = (bitsOf(square) >>> 23) & 255;
  if (biased === 0) return LEAST_GRID_EXPONENT;
  return Math.min(Math.max(((biased - 127 + 1) >> 1) - 1, LEAST_GRID_EXPONENT), MOST_GRID_EXPONENT);
}

/** The 16 random bits for the value at `flat` of the flat array, in the micro-batch whose first sequence has `slot`. */
export function randomOf(key: Key, slot: number, flat: number): number {
  const words = threefry(key, slot, flat >>> 2);
  return (words[flat & 1] >>> (16 * ((flat >>> 1) & 1))) & 0xffff;
}

/** `value` as a multiple of 2^exponent: one of its two neighbours, by the 16 random bits `random`. It must be below 2^12. */
export function roundToGrid(value: number, exponent: number, random: number): bigint {
  const bits = bitsOf(value);
  const biased = (bits >>> 23) & 255;
  const mantissa = biased === 0 ? 0 : (bits & 0x7fffff) | 0x800000;
  const shift = biased - 150 - exponent;
  const magnitude = shift >= 0 ? BigInt(mantissa) << BigInt(shift) : BigInt(shiftedRight(mantissa, -shift, random));
  return bits >>> 31 === 1 ? -magnitude : magnitude;
}

function shiftedRight(mantissa: number, shift: number, random: number): number {
  const right = Math.min(shift, MOST_SHIFT);
  const drawn = Math.min(right, RANDOM_BITS);
  return ((mantissa >>> (right - drawn)) + (random >>> (RANDOM_BITS - drawn))) >>> drawn;
}

/** The float32 of a sum of such multiples. */
export function gradientOf(sum: bigint, exponent: number): number {
  return fromFixedPoint(sum) * 2 ** (exponent + 40);
}

/** By how many units the weight `s` moves where AdamW wants `wanted`. `inverseUnit`: 1 / unit; 0 where nothing moves. */
export function move(wanted: number, s: number, inverseUnit: number): number {
  const distance = Math.min(Math.max(f32(f32(wanted - s) * inverseUnit), -MOST_MOVE), MOST_MOVE);
  return f32(f32(distance + WHOLE) - WHOLE);
}

/** The weight `s` after a move. */
export function moved(s: number, move: number, unit: number): number {
  return settle(s + move * unit);
}

/** Values of a chunk of `squares`, and values whose grid bytes share a word. */
const CHUNK = 4096;
const GRID_WORD = 4 * GRID_BLOCK;

/**
 * The expected squared rounding error of each 4,096 of the gradients [n]: `factor` * 4^E for each value of four neighbours that
 * are not all 0. `exponents`: the grid's, by blocks; `factor`: M / 6, as float32, for M micro-batches. Blocks are added by
 * fours, then the fours in order.
 */
export function roundingErrors(gradients: Floats, exponents: Floats, factor: number): Float32Array {
  const n = gradients.length;
  const sums = new Float32Array(Math.ceil(n / CHUNK));
  for (let word = 0; word * GRID_WORD < n; word++) {
    let sum = 0;
    for (let block = 4 * word; block < 4 * word + 4 && block * GRID_BLOCK < n; block++) {
      const each = settle(factor * 4 ** exponents[block]);
      sum = f32(sum + settle(each * 4 * foursIn(gradients, block)));
    }
    const chunk = Math.floor((word * GRID_WORD) / CHUNK);
    sums[chunk] = f32(sums[chunk] + sum);
  }
  return sums;
}

/** How many fours of a block have a value that is not 0. */
function foursIn(gradients: Floats, block: number): number {
  let fours = 0;
  for (let at = block * GRID_BLOCK; at < (block + 1) * GRID_BLOCK; at += 4)
    if ([0, 1, 2, 3].some((i) => at + i < gradients.length && gradients[at + i] !== 0)) fours++;
  return fours;
}
