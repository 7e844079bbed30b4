import { stagingBytes } from '../gpu/device.js';
import { bufferBytes } from '../gpu/view.js';
import { bytesOf, samplingBuffers, trainingBuffers } from './buffers.js';
import type { ModelConfig } from './config.js';
import { gridWords } from './grid.js';
import { operandPieces, ParameterLayout } from './layout.js';
import type { Plan } from './plan.js';
import { samplingScratch, trainingScratch } from './products.js';
import type { BatchShape } from './shape.js';
import type { Wire } from './wire.js';

/** GPU memory that one process needs, in bytes. */
export interface MemoryBudget {
  /**
   * Weights, moments and 64-bit sums: 20 bytes a parameter, gaps included. The low wire has master weights as well, 4 bytes
   * more, and a grid. For a cluster's owner see `ownerBudget`.
   */
  readonly stateBytes: number;
  /** Includes the copies of the weights that products read (`OperandWeights`). */
  readonly activationBytes: number;
  /** Key/value cache and activations of the sampling graph. */
  readonly samplingBytes: number;
  /** Staging buffers for reads; the largest read is of a checkpoint, one piece of the parameters. */
  readonly readingBytes: number;
  readonly totalBytes: number;
}

/** What a worker holds besides activations: weights, sums, and in the low wire a grid. */
export function workerStateBytes(config: ModelConfig, shape: BatchShape, plan: Plan): number {
  const layout = new ParameterLayout(config, plan);
  return 12 * layout.allocatedValues + (shape.wire === 'low' ? gridBytes(layout) : 0);
}

/** The grid of a whole model: a byte for 64 parameters. */
function gridBytes(layout: ParameterLayout): number {
  return layout.slabSizes.reduce((sum, size) => sum + bufferBytes(gridWords(size)), 0);
}

export function memoryBudget(config: ModelConfig, shape: BatchShape, plan: Plan): MemoryBudget {
  const layout = new ParameterLayout(config, plan);
  const low = shape.wire === 'low';
  const stateBytes = (low ? 24 : 20) * layout.allocatedValues + (low ? gridBytes(layout) : 0);
  const copies = operandPieces(layout, shape.precision);
  const copyBytes = copies.reduce((a, { size }) => a + bufferBytes(size, shape.precision === 'f16'), 0);
  const buffers = trainingBuffers(config, shape, plan, trainingScratch(config, shape, plan));
  const activationBytes = copyBytes + bytesOf(buffers);
  return budgetOf(config, plan, layout, stateBytes, activationBytes);
}

/**
 * The budget of the process that owns a cluster's state (`ClusterOwner`), in bytes a parameter:
 *
 *     exact   16      weights, next weights, moments
 *     low     16      weights, master weights, moments
 *              0.53   moves, the grids of this step and of the next
 *
 * Without clipping it also `keepsMoments` of the step before (8; in the low wire 12, with the master weights), and has the sums
 * of one bucket. With clipping it has the sums of all buckets (8). If it `computes` micro-batches itself, to check workers, a
 * graph and sums (8) come on top.
 */
export function ownerBudget(
  config: ModelConfig,
  plan: Plan,
  keepsMoments: boolean,
  computes?: BatchShape,
  wire: Wire = computes?.wire ?? 'exact',
): MemoryBudget {
  const layout = new ParameterLayout(config, plan);
  const values = layout.allocatedValues;
  const bucket = bufferBytes(Math.max(...layout.buckets().map(({ size }) => size)));
  const kept = (wire === 'low' ? 12 : 8) * values + 3 * bucket;
  const moves = wire === 'low' ? values / 2 + 2 * gridBytes(layout) : 0;
  const stateBytes = 16 * values + moves + (keepsMoments ? kept : 8 * values);
  const graph = computes && memoryBudget(config, computes, plan);
  const sumBytes = graph ? 8 * layout.allocatedValues : 0;
  return budgetOf(config, plan, layout, stateBytes + sumBytes, graph?.activationBytes ?? 0);
}

function budgetOf(
  config: ModelConfig,
  plan: Plan,
  layout: ParameterLayout,
  stateBytes: number,
  activationBytes: number,
): MemoryBudget {
  // Either arithmetic may sample: how K is split differs.
  const scratch = Math.max(samplingScratch(config, plan, false), samplingScratch(config, plan, true));
  const samplingBytes = bytesOf(samplingBuffers(config, scratch));
  const readingBytes = stagingBytes(4 * Math.max(...layout.pieces.map((piece) => piece.size)));
  const totalBytes = stateBytes + activationBytes + samplingBytes + readingBytes;
  return { stateBytes, activationBytes, samplingBytes, readingBytes, totalBytes };
}
