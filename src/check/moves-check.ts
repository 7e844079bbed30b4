import type { KernelCache } from '../gpu/kernel.js';
import { type Dispatch, DispatchList } from '../gpu/list.js';
import { portably } from '../model/arithmetic.js';
import { deriveKey, fillUniform, type Key, Stream, threefry } from '../util/random.js';
import type { Mismatch } from './checking.js';
import { type CheckedPipelines, checkList } from './lists.js';

/* The kernels by which workers and owner of the low wire move weights (shaders/unpack_low.wgsl). */

/** Some whole blocks and half of one. */
const VALUES = 40 * 128 + 64;
const BLOCK_VALUES = 128;
const THREADS = 64;
/** Values of a thread of `apply`, and of `advance`. */
const APPLY_VALUES = 32;
const ADVANCE_VALUES = 8;
/** Words of a block by its code, and words before the first block. */
const BLOCK_WORDS = [0, 8, 12, 16] as const;
const HEAD_WORDS = 11;

/** The first of these kernels whose results are not the reference's; undefined where all are. */
export async function checkMoves(
  kernels: KernelCache,
  seed: number,
  checked: CheckedPipelines,
): Promise<Mismatch | undefined> {
  const { gpu } = kernels;
  const key = deriveKey(seed, Stream.probe, 14);
  const update = generatedUpdate(key);
  const views = {
    weights: await gpu.buffer('weights', VALUES),
    packed: await gpu.buffer('packed', update.packed.length),
    blocks: await gpu.buffer('blocks', update.blocks.length),
    moves: await gpu.buffer('moves', VALUES / ADVANCE_VALUES),
    unit: await gpu.uniform('unit', 16),
  };
  const values = new Float32Array(VALUES);
  fillUniform(key, values, 0.05);
  gpu.write(views.weights, values);
  gpu.write(views.packed, update.packed);
  gpu.write(views.blocks, update.blocks);
  gpu.write(views.moves, wordsOf(key, VALUES / ADVANCE_VALUES, 1));
  gpu.write(views.unit, Float32Array.of(2 ** -9));
  const weights = { ...views.weights, size: 4 * VALUES };
  const { packed, blocks, moves, unit } = views;
  const shared = { shader: 'unpack_low', constants: {} };
  const groups = (each: number): Dispatch['groups'] => [Math.ceil(VALUES / each / THREADS)];
  const list = new DispatchList();
  const apply = { entry: 'apply', bindings: { packed, blocks, weights, unit }, groups: groups(APPLY_VALUES) };
  list.add(portably({ ...shared, ...apply }));
  const ofMoves = { ...moves, size: (4 * VALUES) / ADVANCE_VALUES };
  const advance = { entry: 'advance', bindings: { moves: ofMoves, weights, unit }, groups: groups(ADVANCE_VALUES) };
  list.add(portably({ ...shared, ...advance }));
  await list.prepare(kernels);
  const mismatch = await checkList(gpu, list, seed, checked);
  for (const view of Object.values(views)) gpu.release(view);
  return mismatch;
}

function wordsOf(key: Key, count: number, purpose: number): Uint32Array {
  return Uint32Array.from({ length: count }, (_, i) => threefry(key, i, purpose)[0]);
}

/** Blocks of all codes, with random moves, and where each begins. */
function generatedUpdate(key: Key): { packed: Uint32Array; blocks: Uint32Array } {
  let at = HEAD_WORDS;
  const blocks = Uint32Array.from({ length: Math.ceil(VALUES / BLOCK_VALUES) }, (_, block) => {
    const code = threefry(key, block, 2)[0] & 3;
    const begin = at;
    at += BLOCK_WORDS[code];
    return begin * 16 + code;
  });
  return { packed: wordsOf(key, at, 3), blocks };
}
