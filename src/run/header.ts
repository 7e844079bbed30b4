import { adapterTitle } from '../gpu/device.js';
import { memoryBudget } from '../model/activations.js';
import { ParameterLayout } from '../model/layout.js';
import { describeTable } from '../model/matmul-plan.js';
import { formatBytes } from '../report/format.js';
import type { RunConfig } from '../train/run-config.js';
import { StateSnapshot } from '../train/snapshot.js';
import type { TrainingJob } from './prepare.js';
import { modelLine } from './run-facts.js';

/** Bytes by purpose. */
export type BytesByUse = Readonly<Record<string, number>>;

/**
 * The lines printed before a run: its model, data, training, adapter and memory. `hostMemory`: what its backend keeps
 * in main memory.
 */
export function headerLines(job: TrainingJob, hostMemory?: (layout: ParameterLayout) => BytesByUse): string[] {
  const { config, gpu, plan, shape, budget } = job;
  const { model, options, totalSteps, stepsPerEpoch } = config;
  const { stack = 1, wire } = shape;
  const atOnce = stack > 1 ? `, ${stack} micro-batches at once` : '';
  const kept = memoryBudget(model, { ...shape, recompute: false }, config.plan).activationBytes;
  const saved = options.recompute ? ` (recomputed; kept: ${formatBytes(kept)})` : '';
  const activations = budget.activationBytes > 0 ? `, activations ${formatBytes(budget.activationBytes)}${saved}` : '';
  return [
    `model    ${modelLine(config)}`,
    `data     ${config.data.description}`,
    `training ${totalSteps} steps of ${options.batch} x ${model.context} tokens (${stepsPerEpoch} steps an epoch)${atOnce}, AdamW ${options.lr}, seed ${options.seed}${wire === 'low' ? ', low wire' : ''}`,
    `adapter  ${adapterTitle(gpu.adapter)}, matrix products by ${describeTable(plan.matmul)}`,
    `memory   ${formatBytes(budget.totalBytes)} on the adapter: state ${formatBytes(budget.stateBytes)}${activations}, sampling ${formatBytes(budget.samplingBytes)}, reading back ${formatBytes(budget.readingBytes)}`,
    hostLine(config, hostMemory),
  ];
}

/**
 * Main memory: a checkpoint's copy of the state takes 12 bytes a parameter, in the low wire 16; a cluster's owner also keeps
 * sums and updates.
 */
function hostLine({ model, plan, options }: RunConfig, hostMemory?: (layout: ParameterLayout) => BytesByUse): string {
  const layout = new ParameterLayout(model, plan);
  // Counted even where no checkpoint is scheduled: a signal or the page may ask for one.
  const uses = { 'copy for checkpoints': StateSnapshot.bytes(layout, options.wire), ...hostMemory?.(layout) };
  const total = Object.values(uses).reduce((sum, bytes) => sum + bytes, 0);
  const listed = Object.entries(uses).map(([what, bytes]) => `${what} ${formatBytes(bytes)}`);
  return `host     ${formatBytes(total)} of main memory: ${listed.join(', ')}`;
}
