import { gridByte, gridExponent, gridWords } from '../model/grid.js';
import { gridExponents, move, moved, roundingErrors } from '../reference/low-wire.js';
import { type Checking, ones, PLACES, shown, wordsOf } from './checking.js';
import type { Runs } from './gather.js';
import { BLOCK, CHUNK, Chunks, gridByteOf } from './gradients.js';

/* What the low wire's update does besides AdamW (shaders/update_low.wgsl), and its other kernels (grid.wgsl, unpack_low.wgsl). */

/** Where the numbers of the low wire begin in the uniform `step` of adamw.wgsl. */
const LOW_NUMBERS = 8;
/** Grid bytes in the output of an owner's update are words in multiples of this. */
const PADDED_WORDS = 64;
/** Moves that share a word. */
const WORD_MOVES = 8;
const BYTES = 4;

/** The chunks of an update, their gradients and grid bytes before it, master weights and second moments after it. */
export interface Updated {
  readonly chunks: Chunks;
  readonly gradients: Float32Array;
  readonly grid: Uint32Array;
  readonly master: Float32Array;
  readonly v: Float32Array;
}

/** Reads what the update has besides AdamW's; returns what compares the results after it. */
export async function checkLowUpdate(c: Checking, u: Updated): Promise<() => Promise<void>> {
  const { chunks, gradients, master } = u;
  const { runs } = chunks;
  const { step } = await c.read({ step: [[LOW_NUMBERS, 4]] });
  const [unit, inverseUnit, gridFactor, noiseFactor] = step;
  const { weights } = await c.read({ weights: runs });
  const moves = weights.map((s, n) => move(master[n], s, inverseUnit));
  const grid = nextGrid(u.grid, u.v, gridFactor);
  const exponents = blocksOf(u.gradients.length).map((block) => gridExponent(gridByteOf(u.grid, block)));
  const errors = chunks.indices.map((_, n) => {
    const blocks = exponents.slice((n * CHUNK) / BLOCK, ((n + 1) * CHUNK) / BLOCK);
    return roundingErrors(gradients.subarray(n * CHUNK, (n + 1) * CHUNK), blocks, noiseFactor)[0];
  });
  const inputs = (n: number) => `${shown('master', [master[n]])}, ${shown('weights', [weights[n]])}`;
  const place = (n: number) => `${chunks.indexOf(n)}`;
  const ofGrid = [
    chunks.placeOfWord(BYTES * BLOCK),
    (n: number) => shown('v', u.v.subarray(BYTES * BLOCK * n)),
  ] as const;
  return async () => {
    const after = await c.read({ weights: runs, grid: chunks.gridWords });
    if (c.has('moves')) {
      const first = padded(gridWords(chunks.values));
      const read = await c.read({ moves: [...chunks.gridWords, ...chunks.words(WORD_MOVES, first)] });
      const words = wordsOf(read.moves);
      c.sameWords('moves, grid', words.subarray(0, grid.length), grid, ...ofGrid);
      const ofMoves = [chunks.placeOfWord(WORD_MOVES), (n: number) => inputs(WORD_MOVES * n)] as const;
      c.sameWords('moves', words.subarray(grid.length), nibbles(moves), ...ofMoves);
      c.same('weights', after.weights, weights, place, inputs);
      c.sameWords('grid', wordsOf(after.grid), u.grid, ...ofGrid);
    } else {
      const next = weights.map((s, n) => moved(s, moves[n], unit));
      c.same('weights', after.weights, next, place, inputs);
      c.sameWords('grid', wordsOf(after.grid), grid, ...ofGrid);
    }
    const { squares } = await c.read({ squares: chunks.indices.map((chunk) => [2 * chunk + 1, 1] as const) });
    const ofChunk = (n: number) => shown('exponents', [exponents[(n * CHUNK) / BLOCK]]);
    c.same('squares, rounding errors', squares, errors, (n) => `chunk ${chunks.indices[n]}`, ofChunk);
  };
}

function padded(words: number): number {
  return Math.ceil(words / PADDED_WORDS) * PADDED_WORDS;
}

function blocksOf(values: number): number[] {
  return Array.from({ length: values / BLOCK }, (_, i) => i);
}

/** The words of the grid for the next step: by the moments v, and with the bits of weight decay of `before`. */
function nextGrid(before: Uint32Array, v: Float32Array, gridFactor: number): Uint32Array {
  const words = new Uint32Array(before.length);
  for (const [block, exponent] of gridExponents(v, gridFactor).entries()) {
    const byte = gridByte(exponent, (gridByteOf(before, block) & 0x80) !== 0);
    words[block >> 2] |= byte << (8 * (block & 3));
  }
  return words;
}

/** Moves of 4 bits, eight a word. */
function nibbles(moves: Float32Array): Uint32Array {
  const words = new Uint32Array(Math.ceil(moves.length / WORD_MOVES));
  for (const [i, k] of moves.entries()) words[i >> 3] |= (k & 15) << (4 * (i & 7));
  return words;
}

/** grid.exponents */
export async function checkExponents(c: Checking): Promise<void> {
  const chunks = new Chunks(c, c.valuesIn('v'));
  const { v, gridFactor } = await c.read({ v: chunks.runs, gridFactor: [[0, 1]] });
  const before = wordsOf((await c.read({ grid: chunks.gridWords })).grid);
  const want = nextGrid(before, v, gridFactor[0]);
  c.run();
  const { grid } = await c.read({ grid: chunks.gridWords });
  c.sameWords('grid', wordsOf(grid), want, chunks.placeOfWord(BYTES * BLOCK), (n) =>
    shown('v', v.subarray(BYTES * BLOCK * n)),
  );
}

/** The bits of the moves in a packed block, by its code. */
const WIDTHS = [0, 2, 3, 4] as const;
const PACKED_BLOCK = 128;

/** Checks that each drawn weight moves by its `moves`. */
async function checkMoved(c: Checking, places: readonly number[], moves: readonly number[]): Promise<void> {
  const { unit } = await c.read({ unit: [[0, 1]] });
  const { weights } = await c.read({ weights: ones(places) });
  const want = weights.map((s, n) => moved(s, moves[n], unit[0]));
  c.run();
  const inputs = (n: number) => `${shown('weight', [weights[n]])}, move ${moves[n]}`;
  c.same('weights', (await c.read({ weights: ones(places) })).weights, want, (n) => `${places[n]}`, inputs);
}

/** unpack_low.apply: packed updates. */
export async function checkApply(c: Checking): Promise<void> {
  const values = c.valuesIn('weights');
  const drawn = c.draw(Math.ceil(PLACES / PACKED_BLOCK) + 2, Math.ceil(values / PACKED_BLOCK));
  const blocks = wordsOf((await c.read({ blocks: ones(drawn) })).blocks);
  const runs: Runs = [...blocks].map((block) => [block >>> 4, 4 * WIDTHS[block & 3]]);
  const packed = wordsOf((await c.read({ packed: runs })).packed);
  const places: number[] = [];
  const moves: number[] = [];
  let at = 0;
  for (const [n, block] of drawn.entries()) {
    const width = WIDTHS[blocks[n] & 3];
    for (let i = 0; i < PACKED_BLOCK && block * PACKED_BLOCK + i < values; i++) {
      places.push(block * PACKED_BLOCK + i);
      moves.push(moveIn(packed.subarray(at, at + 4 * width), width, i));
    }
    at += 4 * width;
  }
  await checkMoved(c, places, moves);
}

/** Value i of a block: bits (i / 4) width and on of stream i % 4, whose words are every fourth one. */
function moveIn(block: Uint32Array, width: number, i: number): number {
  let move = 0;
  for (let bit = 0; bit < width; bit++) {
    const at = Math.floor(i / 4) * width + bit;
    move |= ((block[4 * (at >> 5) + (i % 4)] >>> (at & 31)) & 1) << bit;
  }
  return width === 0 ? 0 : (move << (32 - width)) >> (32 - width);
}

/** unpack_low.advance: moves of 4 bits, the last ones of the binding. */
export async function checkAdvance(c: Checking): Promise<void> {
  const values = c.valuesIn('weights');
  const places = c.draw(PLACES, values);
  const first = c.valuesIn('moves') - values / WORD_MOVES;
  const words = wordsOf((await c.read({ moves: places.map((i) => [first + (i >> 3), 1] as const) })).moves);
  await checkMoved(
    c,
    places,
    places.map((i, n) => (words[n] << (28 - 4 * (i & 7))) >> 28),
  );
}
