import { gridExponent } from '../model/grid.js';
import { fromFixedPoint, fromWords } from '../reference/fixed-point.js';
import { squares } from '../reference/optimizer.js';
import { type Checking, PLACES, wordsOf } from './checking.js';

/* The gradients that the update reads: whole chunks of 4,096 values, for sums of squares are made chunk by chunk. */

export const CHUNK = 4096;
/** Values that share a bit of weight decay and, in the low wire, an exponent. */
export const BLOCK = 64;
/** Values whose grid bytes share a word. */
const GRID_WORD = 4 * BLOCK;

/** Runs of values or words. */
export type Run = readonly [start: number, count: number];

/** Some chunks of `values` values. */
export class Chunks {
  readonly indices: readonly number[];
  readonly runs: readonly Run[];

  constructor(
    c: Checking,
    readonly values: number,
  ) {
    this.indices = c.draw(PLACES, Math.ceil(values / CHUNK));
    this.runs = this.indices.map((chunk) => [chunk * CHUNK, Math.min(CHUNK, values - chunk * CHUNK)]);
  }

  /** The index of value n of those that are read of the runs. */
  indexOf(n: number): number {
    return this.indices[Math.floor(n / CHUNK)] * CHUNK + (n % CHUNK);
  }

  /** Words of the chunks, one for each `each` values, from word `first` on. */
  words(each: number, first = 0): Run[] {
    return this.runs.map(([start, count]) => [first + start / each, Math.ceil(count / each)]);
  }

  get gridWords(): Run[] {
    return this.words(GRID_WORD);
  }

  /** Where the word n of `words(each)` begins, for messages. */
  placeOfWord(each: number): (n: number) => string {
    return (n) => `of values ${this.indexOf(n * each)} and on`;
  }

  /** Sums over each chunk. */
  sumsOf(gradients: Float32Array): number[] {
    return this.indices.map((_, n) => squares(gradients.subarray(n * CHUNK, (n + 1) * CHUNK))[0]);
  }
}

/** The grid byte of block n of those in `words`. */
export function gridByteOf(words: ArrayLike<number>, block: number): number {
  return (words[block >> 2] >>> (8 * (block & 3))) & 0xff;
}

export interface Gradients {
  readonly gradients: Float32Array;
  /** The grid bytes of their blocks, in the low wire; otherwise nothing. */
  readonly grid: Uint32Array;
}

/** 64-bit sums are in two bindings; those that come from a reducer in one, the high words after the low ones. */
export function sumRuns(c: Checking, { runs, values }: Chunks): Record<string, readonly Run[]> {
  if (c.has('high')) return { low: runs, high: runs };
  return { low: [...runs, ...runs.map(([start, count]): Run => [values + start, count])] };
}

/** The float32 of each sum. */
export async function readGradients(c: Checking, chunks: Chunks): Promise<Gradients> {
  const read = await c.read(sumRuns(c, chunks));
  const all = wordsOf(read.low);
  const isJoined = read.high === undefined;
  const low = isJoined ? all.subarray(0, all.length / 2) : all;
  const high = isJoined ? all.subarray(all.length / 2) : wordsOf(read.high);
  const grid = c.defines('low') ? wordsOf((await c.read({ grid: chunks.gridWords })).grid) : new Uint32Array();
  const gradients = Float32Array.from(low, (word, i) => {
    // Both wires: a sum counts multiples of 2^-40, or of 2^E, which moves the point.
    const moved = grid.length > 0 ? 2 ** (gridExponent(gridByteOf(grid, Math.floor(i / BLOCK))) + 40) : 1;
    return fixedPoint(word, high[i]) * moved;
  });
  return { gradients, grid };
}

function fixedPoint(low: number, high: number): number {
  const top = high | 0;
  // Below 2^52 a float64 holds the sum, so it is rounded once.
  if (Math.abs(top) < 2 ** 20) return Math.fround((top * 2 ** 32 + low) * 2 ** -40);
  return fromFixedPoint(fromWords(low, high));
}
