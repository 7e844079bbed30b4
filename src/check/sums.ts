import { fixedPointStatus, fromWords, toFixedPoint } from '../reference/fixed-point.js';
import { type Checking, ones, type Sums, wordsOf } from './checking.js';

/** What is added to sums in fixed point: the values of each micro-batch of a stack. */
export type Addends = readonly ArrayLike<number>[];

/** The sums at `indices` before a dispatch, which may add to them. */
export async function readSums(c: Checking, indices: readonly number[]): Promise<Sums> {
  return c.read({ low: ones(indices), high: ones(indices) });
}

/**
 * The sums after a dispatch that rounds each of `addends` to fixed point and adds it, or overwrites the sums with the first
 * one. Undefined where an addend does not fit fixed point: such a sum has no meaning.
 */
export function addedSums(before: Sums, addends: Addends, accumulate: boolean): (bigint | undefined)[] {
  const [low, high] = [wordsOf(before.low), wordsOf(before.high)];
  return Array.from(low, (word, n) => {
    if (addends.some((values) => fixedPointStatus(values[n]) !== 0)) return undefined;
    const begin = accumulate ? fromWords(word, high[n]) : 0n;
    return addends.reduce((sum, values) => sum + toFixedPoint(values[n]), begin);
  });
}
