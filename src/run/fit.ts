/** What fits the adapter's memory. */
import { LantrainError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import { type MemoryBudget, memoryBudget, ownerBudget } from '../model/activations.js';
import type { ModelConfig } from '../model/config.js';
import type { Plan } from '../model/plan.js';
import type { BatchShape } from '../model/shape.js';
import { chooseStack, possibleStacks } from '../model/stack.js';
import { availableMemory } from '../node/memory.js';
import { formatBytes } from '../report/format.js';
import { BASE_OPTIONS, shapeOptionsOf, type TrainOptions } from '../train/options.js';
import { PRESET_NAMES, PRESETS, type PresetName } from '../train/presets.js';

/** The memory of a cluster's owner. With `audits` the owner computes micro-batches too, if there is memory for that. */
export function clusterBudget(
  gpu: Gpu,
  model: ModelConfig,
  shape: BatchShape,
  plan: Plan,
  keepsMoments: boolean,
  audits: boolean,
): MemoryBudget {
  const available = availableMemory(gpu.adapter) ?? Number.POSITIVE_INFINITY;
  const budgets = [shape, { ...shape, recompute: true }].map((one) => ownerBudget(model, plan, keepsMoments, one));
  const fitting = audits ? budgets.find(({ totalBytes }) => totalBytes <= available) : undefined;
  return fitting ?? ownerBudget(model, plan, keepsMoments, undefined, shape.wire);
}

/**
 * `shape` with the stack asked for, or the best one for this adapter. Throws LT_USAGE_BATCH for an impossible stack.
 */
export function stackedShape(
  { adapter }: Gpu,
  model: ModelConfig,
  shape: BatchShape,
  plan: Plan,
  { batch, microBatch, stack }: TrainOptions,
): BatchShape {
  const microBatches = batch / microBatch;
  if (stack === 0) {
    const available = availableMemory(adapter) ?? Number.POSITIVE_INFINITY;
    const fits = ({ totalBytes }: MemoryBudget) => totalBytes <= available;
    return { ...shape, stack: chooseStack(model, shape, plan, microBatches, adapter, fits) };
  }
  const possible = possibleStacks(model, shape, plan, microBatches);
  if (!possible.includes(stack))
    throw new LantrainError(
      'LT_USAGE_BATCH',
      `--stack ${stack} cannot be computed: of the step's ${microBatches} micro-batches so many can be stacked: ${possible.toReversed().join(', ')}`,
    );
  return { ...shape, stack };
}

/**
 * Throws LT_GPU_MEMORY, with an option that would help, where the budget exceeds the adapter's memory. Does nothing
 * where that memory is unknown.
 */
export function checkMemory(gpu: Gpu, model: ModelConfig, shape: BatchShape, plan: Plan, budget: MemoryBudget): void {
  const available = availableMemory(gpu.adapter);
  if (available === undefined || budget.totalBytes <= available) return;
  const total = (m: ModelConfig, s: BatchShape) => memoryBudget(m, s, plan).totalBytes;
  const single = { ...shape, stack: 1 };
  const smaller = (name: PresetName) => {
    const p: Partial<TrainOptions> = PRESETS[name];
    const m = { ...model, ...shapeOptionsOf({ ...BASE_OPTIONS, ...p }) };
    return total(m, { ...single, batch: 1, context: m.context }) <= available;
  };
  const fits = PRESET_NAMES.toReversed().find(smaller);
  let advice = fits ? `--preset ${fits} fits` : 'choose a smaller --width or --layers';
  if (total(model, single) <= available) advice = '--stack 1 fits, with the same bits';
  else if (total(model, { ...single, recompute: true }) <= available) advice = '--recompute fits, with the same bits';
  else if (total(model, { ...single, batch: 1 }) <= available) advice = '--micro-batch 1 fits';
  else if (total(model, { ...single, batch: 1, recompute: true }) <= available)
    advice = '--micro-batch 1 --recompute fits';
  else if (total({ ...model, context: 128 }, { ...single, batch: 1, context: 128 }) <= available)
    advice = '--micro-batch 1 --context 128 fits';
  throw new LantrainError(
    'LT_GPU_MEMORY',
    `the model needs ${formatBytes(budget.totalBytes)} on the adapter, and there is ${formatBytes(available)}; ${advice}`,
  );
}
