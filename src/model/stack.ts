import type { AdapterDescription } from '../gpu/device.js';
import { ALIGN_VALUES } from '../gpu/view.js';
import { type MemoryBudget, memoryBudget } from './activations.js';
import { BOUNDS, type ModelConfig } from './config.js';
import { splitOf, variantFor } from './matmul-plan.js';
import type { Plan } from './plan.js';
import { scratchOf, trainingProducts } from './products.js';
import { type BatchShape, divisorsOf, headPasses } from './shape.js';

/*
 * How many micro-batches are computed at once. A stack reads the weights once and the gradients' sums once, in fewer and
 * larger kernels. It costs memory for activations. No bit depends on it, so every process chooses its own.
 */

/** Kernels hardly gain from more rows than these. Software adapters are full with few rows, GPUs with many. */
const ENOUGH_ROWS = { software: 1024, hardware: 8192 };

/** Largest number of bytes of additional activations of a stack that the user has not asked for. */
const MOST_EXTRA_BYTES = 2 ** 29;

export const MOST_ROWS = BOUNDS.rows;

/** The stacks that divide a step's `microBatches` and that the graph can be built for, largest first. Always includes 1. */
export function possibleStacks(config: ModelConfig, shape: BatchShape, plan: Plan, microBatches: number): number[] {
  return divisorsOf(microBatches).filter((stack) => stack === 1 || isPossible(config, { ...shape, stack }, plan));
}

function isPossible(config: ModelConfig, shape: BatchShape & { readonly stack: number }, plan: Plan): boolean {
  const rows = shape.stack * shape.batch * shape.context;
  const passes = headPasses(config, shape, plan);
  if (rows > MOST_ROWS || 4 * rows * config.width > plan.windowValues) return false;
  if (passes.some(({ start }) => start % ALIGN_VALUES !== 0)) return false;
  const products = trainingProducts(config, shape, plan);
  return (
    scratchOf(products, plan) <= plan.windowValues &&
    products.every((p) => p.layout !== 'TN' || splitOf(variantFor(plan.matmul, p), p).splitK === 1)
  );
}

/** The largest possible stack that gains speed on this adapter and whose memory `fits`. */
export function chooseStack(
  config: ModelConfig,
  shape: BatchShape,
  plan: Plan,
  microBatches: number,
  adapter: AdapterDescription,
  fits: (budget: MemoryBudget) => boolean,
): number {
  const enough = ENOUGH_ROWS[adapter.software ? 'software' : 'hardware'];
  const budget = (stack: number) => memoryBudget(config, { ...shape, stack }, plan);
  const most = budget(1).activationBytes + MOST_EXTRA_BYTES;
  const pays = (stack: number) => {
    const needed = budget(stack);
    return needed.activationBytes <= most && fits(needed);
  };
  // Cheap checks first: isPossible records the whole graph.
  const isChosen = (stack: number) =>
    stack === 1 ||
    (stack * shape.batch * shape.context <= enough && isPossible(config, { ...shape, stack }, plan) && pays(stack));
  return divisorsOf(microBatches).find(isChosen) ?? 1;
}
