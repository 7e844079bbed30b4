import { fromFixedPoint, fromWords } from '../reference/fixed-point.js';
import { squares, type UpdateNumbers, update } from '../reference/optimizer.js';
import { type Checking, ones, PLACES, shown, wordsOf } from './checking.js';
import type { Runs } from './gather.js';

/* The update and the squares of gradients, by whole chunks of squares.wgsl. */

const CHUNK = 4096;
/** Values that share a decay bit. */
const DECAY_BLOCK = 64;

/** The float32 of each 64-bit sum. */
function gradientsOf(low: Float32Array<ArrayBuffer>, high: Float32Array<ArrayBuffer>): Float32Array {
  const [l, h] = [wordsOf(low), wordsOf(high)];
  return Float32Array.from(l, (word, i) => {
    const top = h[i] | 0;
    // Below 2^52 a float64 holds the sum, so it is rounded once.
    if (Math.abs(top) < 2 ** 20) return Math.fround((top * 2 ** 32 + word) * 2 ** -40);
    return fromFixedPoint(fromWords(word, h[i]));
  });
}

function drawnChunks(c: Checking, values: number): { readonly chunks: number[]; readonly runs: Runs } {
  const chunks = c.draw(PLACES, Math.ceil(values / CHUNK));
  return { chunks, runs: chunks.map((chunk) => [chunk * CHUNK, Math.min(CHUNK, values - chunk * CHUNK)]) };
}

/** The sum of the squares of each chunk. */
function squaresOf(gradients: Float32Array, runs: Runs): number[] {
  let at = 0;
  return (runs as readonly (readonly [number, number])[]).map(([, count]) => {
    const [sum] = squares(gradients.subarray(at, at + count));
    at += count;
    return sum;
  });
}

/** gradient_norm.chunkSquares */
export async function checkSquares(c: Checking): Promise<void> {
  const { chunks, runs } = drawnChunks(c, c.valuesIn('low'));
  const { low, high } = await c.read({ low: runs, high: runs });
  const gradients = gradientsOf(low, high);
  c.run();
  const { squares } = await c.read({ squares: ones(chunks) });
  const inputs = (n: number) => shown('gradients', gradients.subarray(n * CHUNK, (n + 1) * CHUNK));
  c.same('squares', squares, squaresOf(gradients, runs), (n) => `chunk ${chunks[n]}`, inputs);
}

/** The order of the numbers in the uniform `step` of adamw.wgsl. */
const NUMBERS = [
  'clipScale',
  'decayFactor',
  'beta2',
  'oneMinusBeta1',
  'oneMinusBeta2',
  'stepSize',
  'inverseSqrtCorrection2',
  'epsilon',
] as const satisfies readonly (keyof UpdateNumbers)[];

/** adamw.update */
export async function checkUpdate(c: Checking): Promise<void> {
  const { chunks, runs } = drawnChunks(c, c.valuesIn('weights'));
  const before = await c.read({ weights: runs, m: runs, v: runs, low: runs, high: runs });
  const { step, decayBits } = await c.read({ step: [[0, NUMBERS.length]], decayBits: [[0, c.valuesIn('decayBits')]] });
  const numbers = Object.fromEntries(NUMBERS.map((name, i) => [name, step[i]])) as unknown as UpdateNumbers;
  const bits = wordsOf(decayBits);
  const gradients = gradientsOf(before.low, before.high);
  const want = { weights: before.weights.slice(), m: before.m.slice(), v: before.v.slice() };
  const indexOf = (n: number) => chunks[Math.floor(n / CHUNK)] * CHUNK + (n % CHUNK);
  for (let n = 0; n < gradients.length; n += DECAY_BLOCK) {
    const block = indexOf(n) / DECAY_BLOCK;
    const decays = ((bits[block >> 5] >>> (block & 31)) & 1) === 1;
    const part = (values: Float32Array) => values.subarray(n, n + DECAY_BLOCK);
    const state = { weights: part(want.weights), m: part(want.m), v: part(want.v) };
    update(state, part(gradients), decays ? numbers : { ...numbers, decayFactor: 1 });
  }
  c.run();
  const got = await c.read({ weights: runs, m: runs, v: runs, low: runs, high: runs, squares: ones(chunks) });
  const inputs = (n: number) =>
    `${shown('gradient', [gradients[n]])}, ${shown('m', [before.m[n]])}, ${shown('v', [before.v[n]])}`;
  for (const name of ['m', 'v', 'weights'] as const)
    c.same(name, got[name], want[name], (n) => `${indexOf(n)}`, inputs);
  const zeros = new Float32Array(gradients.length);
  for (const name of ['low', 'high'] as const)
    c.same(name, got[name], c.flag('CLEAR') ? zeros : before[name], (n) => `${indexOf(n)}`, inputs);
  const ofChunk = (n: number) => shown('gradients', gradients.subarray(n * CHUNK, (n + 1) * CHUNK));
  c.same('squares', got.squares, squaresOf(gradients, runs), (n) => `chunk ${chunks[n]}`, ofChunk);
}
