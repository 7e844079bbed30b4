import { type UpdateNumbers, update } from '../reference/optimizer.js';
import { type Checking, shown, wordsOf } from './checking.js';
import { BLOCK, CHUNK, Chunks, readGradients, sumRuns } from './gradients.js';
import { checkLowUpdate } from './low-update.js';

/* The update and the squares of gradients, by whole chunks of squares.wgsl. */

/** gradient_norm.chunkSquares */
export async function checkSquares(c: Checking): Promise<void> {
  const chunks = new Chunks(c, c.valuesIn('low') / (c.has('high') ? 1 : 2));
  const { gradients } = await readGradients(c, chunks);
  c.run();
  sameSquares(c, chunks, gradients, await readSquares(c, chunks));
}

/** The sums of squares: one value a chunk, or in the low wire the first of two. */
async function readSquares(c: Checking, { indices }: Chunks): Promise<Float32Array> {
  const each = c.defines('low') ? 2 : 1;
  return (await c.read({ squares: indices.map((chunk) => [each * chunk, 1] as const) })).squares;
}

function sameSquares(c: Checking, chunks: Chunks, gradients: Float32Array, got: Float32Array): void {
  const inputs = (n: number) => shown('gradients', gradients.subarray(n * CHUNK, (n + 1) * CHUNK));
  c.same('squares', got, chunks.sumsOf(gradients), (n) => `chunk ${chunks.indices[n]}`, inputs);
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
  const chunks = new Chunks(c, c.valuesIn('weights'));
  const isLow = c.defines('low');
  // In the low wire AdamW changes the master weights.
  const changed = isLow ? 'master' : 'weights';
  const { runs } = chunks;
  const sums = sumRuns(c, chunks);
  const { gradients, grid } = await readGradients(c, chunks);
  const before = await c.read({ [changed]: runs, m: runs, v: runs, ...sums });
  const { step } = await c.read({ step: [[0, NUMBERS.length]] });
  const numbers = Object.fromEntries(NUMBERS.map((name, i) => [name, step[i]])) as unknown as UpdateNumbers;
  const decays = isLow ? (n: number) => (grid[n >> 8] >>> (8 * ((n >> 6) & 3) + 7)) & 1 : await decayBits(c, chunks);
  const want = { weights: before[changed].slice(), m: before.m.slice(), v: before.v.slice() };
  for (let n = 0; n < gradients.length; n += BLOCK) {
    const part = (values: Float32Array) => values.subarray(n, n + BLOCK);
    const state = { weights: part(want.weights), m: part(want.m), v: part(want.v) };
    update(state, part(gradients), decays(n) === 1 ? numbers : { ...numbers, decayFactor: 1 });
  }
  const checkRest = isLow
    ? await checkLowUpdate(c, { chunks, gradients, grid, master: want.weights, v: want.v })
    : undefined;
  c.run();
  const place = (n: number) => `${chunks.indexOf(n)}`;
  const inputs = (n: number) =>
    `${shown('gradient', [gradients[n]])}, ${shown('m', [before.m[n]])}, ${shown('v', [before.v[n]])}`;
  const got = await c.read({ [changed]: runs, m: runs, v: runs, ...sums });
  for (const name of ['m', 'v'] as const) c.same(name, got[name], want[name], place, inputs);
  c.same(changed, got[changed], want.weights, place, inputs);
  for (const name of Object.keys(sums)) {
    const after = c.flag('CLEAR') ? new Uint32Array(before[name].length) : wordsOf(before[name]);
    c.sameWords(
      name,
      wordsOf(got[name]),
      after,
      (n) => place(n % gradients.length),
      (n) => inputs(n % gradients.length),
    );
  }
  sameSquares(c, chunks, gradients, await readSquares(c, chunks));
  await checkRest?.();
}

/** Whether value n of those of the chunks decays: 1 or 0. */
async function decayBits(c: Checking, chunks: Chunks): Promise<(n: number) => number> {
  const bits = wordsOf((await c.read({ decayBits: [[0, c.valuesIn('decayBits')]] })).decayBits);
  return (n) => {
    const block = chunks.indexOf(n) / BLOCK;
    return (bits[block >> 5] >>> (block & 31)) & 1;
  };
}
