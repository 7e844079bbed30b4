import type { Gpu } from '../gpu/device.js';
import type { KernelCache } from '../gpu/kernel.js';
import { type Dispatch, DispatchList } from '../gpu/list.js';
import { slice } from '../gpu/view.js';
import { portably } from '../model/arithmetic.js';
import { GRID_BLOCK, GridArena, gridExponent, gridWords } from '../model/grid.js';
import { ParameterLayout } from '../model/layout.js';
import { ExactSums, normChunksOf, squareValues } from '../model/sums.js';
import type { Wire } from '../model/wire.js';
import { Optimizer } from '../train/optimizer.js';
import { deriveKey, type Key, Stream, threefry } from '../util/random.js';
import type { Mismatch } from './checking.js';
import { generatedGrid, generatedValues } from './generated.js';
import { gridByteOf } from './gradients.js';
import { type CheckedPipelines, checkList } from './lists.js';
import { checkMoves } from './moves-check.js';

/* The kernels of the update in portable arithmetic. They are the same for every model, so small ones are enough. */

/** Values of the layout on which the update is checked: several chunks of squares. */
const UPDATED = { vocabSize: 2048, context: 8, width: 16, layers: 1, heads: 2, qkvBias: true } as const;

const ADAMW = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1, decay: 'matrices' } as const;
const LEARNING_RATE = 1e-2;
const MICRO_BATCHES = 8;
/** Of the moves at this learning rate. */
const UNIT = 2 ** -8;
/** Largest distance of master weights and weights. */
const APART = 10 * UNIT;

/**
 * The first kernel of a portable update whose results are not the reference's; undefined where all are. Uses a model whose
 * update leaves the sums, and one whose update clears them. In the low wire the kernels of an owner, which has the sums from a
 * reducer, and the moves of weights are checked too. Frees the models' memory.
 */
export async function checkUpdates(
  kernels: KernelCache,
  seed: number,
  wire: Wire = 'exact',
  checked: CheckedPipelines = new Set(),
): Promise<Mismatch | undefined> {
  let mismatch: Mismatch | undefined;
  for (const tie of [true, false]) mismatch ??= await checkUpdate(kernels, tie, seed, wire, checked);
  if (wire === 'low') mismatch ??= await checkMoves(kernels, seed, checked);
  return mismatch;
}

async function checkUpdate(
  kernels: KernelCache,
  tie: boolean,
  seed: number,
  wire: Wire,
  checked: CheckedPipelines,
): Promise<Mismatch | undefined> {
  const { gpu } = kernels;
  const layout = new ParameterLayout({ ...UPDATED, tie });
  const grid = wire === 'low' ? await GridArena.allocate(gpu, layout) : undefined;
  const sums = await ExactSums.allocate(gpu, layout, grid);
  const optimizer = await Optimizer.build(kernels, layout, sums, ADAMW, true, MICRO_BATCHES);
  fillState(gpu, optimizer, seed);
  const [size] = layout.slabSizes;
  const words = generatedSums(size, deriveKey(seed, Stream.probe, 10));
  const bytes = generatedGrid(gridWords(size), deriveKey(seed, Stream.probe, 12));
  if (grid) {
    gpu.write(grid.slabs[0], bytes);
    intoGrid(words, bytes);
    fillResting(gpu, optimizer);
  }
  gpu.write(sums.low.slabs[0], words.low);
  gpu.write(sums.high.slabs[0], words.high);
  optimizer.state.writeStep(3, LEARNING_RATE, 0.7);
  let mismatch: Mismatch | undefined;
  for (const list of optimizer.lists(true)) mismatch ??= await checkList(gpu, list, seed, checked);
  if (grid) {
    // The update has changed it, and the sums are in units of what it was.
    gpu.write(grid.slabs[0], bytes);
    mismatch ??= await checkOwner(kernels, optimizer, words, seed, checked);
  }
  optimizer.state.release();
  sums.release(gpu);
  return mismatch;
}

/** Weights, moments and master weights. */
function fillState(gpu: Gpu, { state }: Optimizer, seed: number): void {
  for (const [i, parameter] of state.layout.parameters.entries()) {
    const { name } = parameter;
    const values = (purpose: number) => generatedValues(parameter, deriveKey(seed, Stream.probe, purpose, i), 0.05);
    const weights = values(7);
    // Not around 1 for gains.
    const apart = generatedValues({ ...parameter, kind: 'bias' }, deriveKey(seed, Stream.probe, 13, i), APART);
    state.weights.write(gpu, name, weights);
    state.master?.write(
      gpu,
      name,
      weights.map((weight, n) => weight + apart[n]),
    );
    state.m.write(gpu, name, values(8));
    state.v.write(
      gpu,
      name,
      values(9).map((value) => value * value),
    );
  }
}

/** One of so many blocks has neither gradients nor moments, so AdamW leaves its weights unless they decay. */
const RESTING_EACH = 11;
const RESTING = 5;

/** Gives the resting blocks master weights that are halves of a unit apart from the weights: ties of the moves. */
function fillResting(gpu: Gpu, { state }: Optimizer): void {
  const zeros = new Float32Array(GRID_BLOCK);
  const ties = zeros.map((_, i) => (((i % 17) - 8) / 2) * UNIT);
  const [size] = state.layout.slabSizes;
  for (let at = RESTING * GRID_BLOCK; at < size; at += RESTING_EACH * GRID_BLOCK) {
    for (const arena of [state.weights, state.m, state.v]) gpu.write(slice(arena.slabs[0], at, GRID_BLOCK), zeros);
    if (state.master) gpu.write(slice(state.master.slabs[0], at, GRID_BLOCK), ties);
  }
}

/** 64-bit sums, by their low and high words. */
interface SumWords {
  readonly low: Uint32Array;
  readonly high: Uint32Array;
}

/** `n` sums. High words keep the sign and some bits, or all: gradients of all magnitudes up to 2^23, in units of 2^-40. */
function generatedSums(n: number, key: Key): SumWords {
  const low = Uint32Array.from({ length: n }, (_, i) => threefry(key, i, 0)[0]);
  return { low, high: low.map((word) => (word | 0) >> (17 + (word & 15))) };
}

/** One of so many vectors of four sums is zero, and so many factors make blocks differ. */
const ZEROS_EACH = 5;
const FACTORS = 39;

/** Makes these sums count units of the grid, and smaller by a factor that differs from block to block. */
function intoGrid({ low, high }: SumWords, grid: Uint32Array): void {
  for (let i = 0; i < low.length; i++) {
    const block = Math.floor(i / GRID_BLOCK);
    const shift = gridExponent(gridByteOf(grid, block)) + 40 + ((7 * block) % FACTORS);
    const sum = BigInt.asIntN(64, (BigInt(high[i]) << 32n) | BigInt(low[i])) >> BigInt(shift);
    const isZero = (i >> 2) % ZEROS_EACH === 0 || block % RESTING_EACH === RESTING;
    const kept = isZero ? 0n : BigInt.asUintN(64, sum);
    low[i] = Number(kept & 0xffffffffn);
    high[i] = Number(kept >> 32n);
  }
}

/** The low wire's kernels of an owner: norm and update of sums from a reducer, and the grid of a state that was read. */
async function checkOwner(
  kernels: KernelCache,
  { state }: Optimizer,
  words: SumWords,
  seed: number,
  checked: CheckedPipelines,
): Promise<Mismatch | undefined> {
  const { gpu } = kernels;
  const size = words.low.length;
  const range = { slab: 0, offset: 0, size };
  const grid = state.grid?.slabs[0];
  if (grid === undefined) throw new Error('a state without a grid');
  const low = await gpu.buffer('sums', 2 * size);
  gpu.write(slice(low, 0, size), words.low);
  gpu.write(slice(low, size, size), words.high);
  const squares = await gpu.buffer('squares', squareValues(state.grid) * normChunksOf(size));
  const moves = await gpu.buffer('moves', Math.ceil(gridWords(size) / 64) * 64 + size / 8);
  const gridFactor = await gpu.uniform('grid factor', 16);
  // Another one than the update's, so that the exponents change.
  gpu.write(gridFactor, Float32Array.of(2 ** -12));
  const exponents: Dispatch = {
    shader: 'grid',
    entry: 'exponents',
    constants: {},
    bindings: { v: state.v.slabs[0], grid, gridFactor },
    groups: [Math.ceil(gridWords(size) / 64)],
  };
  const list = new DispatchList();
  list.add(state.norm(range, { low }, squares));
  list.add(state.update(range, { low }, state.weights.slabs[0], squares, false, moves));
  list.add(portably(exponents));
  await list.prepare(kernels);
  const mismatch = await checkList(gpu, list, seed, checked);
  for (const view of [low, squares, moves, gridFactor]) gpu.release(view);
  return mismatch;
}
