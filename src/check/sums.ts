import { gridExponent } from '../model/grid.js';
import { fixedPointStatus, fromWords, toFixedPoint } from '../reference/fixed-point.js';
import { randomOf, roundToGrid } from '../reference/low-wire.js';
import type { Key } from '../util/random.js';
import { type Checking, ones, type Sums, wordsOf } from './checking.js';
import { gridByteOf } from './gradients.js';

/** What is added to sums: the values of each micro-batch of a stack, at some indices of the bound sums. */
export type Addends = readonly ArrayLike<number>[];

/** The sums at `indices` before a dispatch, which may add to them. */
export async function readSums(c: Checking, indices: readonly number[]): Promise<Sums> {
  return c.read({ low: ones(indices), high: ones(indices) });
}

/**
 * The sums at `indices` after a dispatch that rounds each of `addends` and adds it, or overwrites the sums with the first one.
 * Undefined where an addend does not fit fixed point: such a sum has no meaning.
 */
export async function addedSums(
  c: Checking,
  indices: readonly number[],
  addends: Addends,
  accumulate: boolean,
): Promise<(bigint | undefined)[]> {
  const before = await readSums(c, indices);
  const [low, high] = [wordsOf(before.low), wordsOf(before.high)];
  const round = c.defines('low') ? await roundingOf(c, indices) : toFixedPoint;
  return Array.from(low, (word, n) => {
    if (addends.some((values) => fixedPointStatus(values[n]) !== 0)) return undefined;
    const begin = accumulate ? fromWords(word, high[n]) : 0n;
    return addends.reduce((sum, values, s) => sum + round(values[n], n, s), begin);
  });
}

/** How a dispatch of the low wire rounds value n of `indices` in micro-batch s of its stack (shaders/rounding_low.wgsl). */
async function roundingOf(c: Checking, indices: readonly number[]) {
  const { rounding } = await c.read({ rounding: [[0, 4]] });
  const [k0, k1, firstSlot, sequences] = wordsOf(rounding);
  const [place, inSlab, firstBatch] = await c.numbers('gridPlace', 3);
  const exponents = await exponentsAt(
    c,
    indices.map((i) => inSlab + i),
  );
  const key: Key = [k0, k1];
  return (value: number, n: number, s: number) =>
    roundToGrid(value, exponents[n], randomOf(key, firstSlot + (firstBatch + s) * sequences, place + indices[n]));
}

/** The exponents of the grid at these places of the binding `grid`. */
async function exponentsAt(c: Checking, places: readonly number[]): Promise<number[]> {
  const words = [...new Set(places.map((at) => at >>> 8))].sort((a, b) => a - b);
  const read = wordsOf((await c.read({ grid: ones(words) })).grid);
  const byWord = new Map(words.map((word, i) => [word, read[i]]));
  return places.map((at) => gridExponent(gridByteOf([byWord.get(at >>> 8) as number], (at >>> 6) & 3)));
}
