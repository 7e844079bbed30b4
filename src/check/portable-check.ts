import { slice, valuesIn } from '../gpu/view.js';
import { type Gpt, IGNORED_TARGET, type MicroBatch } from '../model/gpt.js';
import { rounded } from '../reference/arithmetic.js';
import { deriveKey, fillUniform, type Key, Stream, threefry } from '../util/random.js';
import type { Mismatch } from './checking.js';
import { generatedGrid, generatedValues, STRETCH } from './generated.js';
import { buffersToCheck, type CheckedPipelines, checkList } from './lists.js';

/*
 * Whether an adapter computes portable arithmetic: the run's own kernels, at the run's own shape, against the reference in
 * plain TypeScript (src/reference). A pipeline is checked once, at its first dispatch; no other dispatch runs, so a model of
 * many layers takes little longer than one of a few. Weights, tokens and what other dispatches would have computed are
 * generated.
 */

/** Buffers that are loaded, and one that dispatches write before they read it. */
const NOT_FILLED: ReadonlySet<string> = new Set(['tokens', 'targets', 'lists', 'scratch']);

/** Fills those of a graph's buffers that `wanted` holds with values in [-1, 1), rounded to 12 bits where they are rounded. */
function fill(gpt: Gpt, wanted: ReadonlySet<GPUBuffer>, key: Key): void {
  const stretch = new Float32Array(STRETCH);
  fillUniform(key, stretch, 1);
  const short = stretch.map(rounded);
  for (const [name, view] of gpt.buffers) {
    if (NOT_FILLED.has(name) || !wanted.has(view.buffer)) continue;
    for (let at = 0; at < valuesIn(view); at += STRETCH) {
      const count = Math.min(STRETCH, valuesIn(view) - at);
      gpt.gpu.write(slice(view, at, count), (view.rounded ? short : stretch).subarray(0, count));
    }
  }
}

/** One of so many targets is ignored. */
const IGNORED_EACH = 61;

/** `stack` micro-batches of a graph, drawn by `key`. */
function generatedBatches(gpt: Gpt, key: Key, stack: number): MicroBatch[] {
  const { vocabSize } = gpt.config;
  const ids = (n: number, purpose: number) =>
    Uint32Array.from({ length: gpt.rows }, (_, i) => threefry(key, i, 2 * n + purpose)[0] % vocabSize);
  return Array.from({ length: stack }, (_, n) => ({
    tokens: ids(n, 0),
    targets: ids(n, 1).map((id, i) => (i % IGNORED_EACH === IGNORED_EACH - 1 ? IGNORED_TARGET : id)),
    firstSlot: 3 + n * gpt.shape.batch,
  }));
}

/**
 * The first kernel of a portable training graph whose results are not the reference's, at 200 places of each kernel or more;
 * undefined where all are. Overwrites weights, sums and the low wire's grid; the sums are zero afterwards. `checked`: pipelines of the same
 * adapter that were checked before, which grows.
 */
export async function checkGraph(
  gpt: Gpt,
  seed: number,
  checked: CheckedPipelines = new Set(),
): Promise<Mismatch | undefined> {
  const { gpu, weights, sums, stack } = gpt;
  const { layout } = weights;
  // Outputs of a linear layer have a variance of 1 then, so that GELU and softmax see all kinds of arguments.
  const bound = Math.sqrt(3 / layout.config.width);
  for (const [i, parameter] of layout.parameters.entries())
    weights.write(gpu, parameter.name, generatedValues(parameter, deriveKey(seed, Stream.probe, 5, i), bound));
  sums.clear(gpu);
  if (sums.grid)
    for (const [i, slab] of sums.grid.slabs.entries())
      gpu.write(slab, generatedGrid(valuesIn(slab), deriveKey(seed, Stream.probe, 12, i)));
  let mismatch: Mismatch | undefined;
  if (gpt.operandList) mismatch = await checkList(gpu, gpt.operandList, seed, checked);
  // Only one copy of each size is made by then, and products of zeros would hide a fault.
  gpt.submitWeights();
  const batches = generatedBatches(gpt, deriveKey(seed, Stream.probe, 6), stack);
  const lists = [...new Set([stack, 1])].flatMap((size) => [
    { size, list: gpt.gradientList({ stack: size, accumulate: true }) },
    { size, list: gpt.lossList(size) },
  ]);
  for (const { size, list } of lists) {
    if (mismatch) break;
    gpt.loadGradient(batches.slice(0, size), { seed, step: 5, tokenWeight: 1 / gpt.rows });
    fill(gpt, buffersToCheck(list, checked), deriveKey(seed, Stream.probe, 11));
    mismatch = await checkList(gpu, list, seed, checked);
  }
  sums.clear(gpu);
  return mismatch;
}
