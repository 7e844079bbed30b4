import { stagingBytes } from '../gpu/device.js';
import { bufferBytes } from '../gpu/view.js';
import { bytesOf, samplingBuffers, trainingBuffers } from './buffers.js';
import type { ModelConfig } from './config.js';
import { operandPieces, ParameterLayout } from './layout.js';
import type { Plan } from './plan.js';
import { samplingScratch, trainingScratch } from './products.js';
import type { BatchShape } from './shape.js';

/** GPU memory that one process needs, in bytes. */
export interface MemoryBudget {
  /** Weights, moments and 64-bit sums: 20 bytes a parameter, gaps included. For a cluster's owner see `ownerBudget`. */
  readonly stateBytes: number;
  /** Includes the copies of the weights that products read (`OperandWeights`). */
  readonly activationBytes: number;
  /** Key/value cache and activations of the sampling graph. */
  readonly samplingBytes: number;
  /** Staging buffers for reads; the largest read is of a checkpoint, one piece of the parameters. */
  readonly readingBytes: number;
  readonly totalBytes: number;
}

export function memoryBudget(config: ModelConfig, shape: BatchShape, plan: Plan): MemoryBudget {
  const layout = new ParameterLayout(config, plan);
  const stateBytes = 20 * layout.allocatedValues;
  const copies = operandPieces(layout, shape.precision);
  const copyBytes = copies.reduce((a, { size }) => a + bufferBytes(size, shape.precision === 'f16'), 0);
  const buffers = trainingBuffers(config, shape, plan, trainingScratch(config, shape, plan));
  const activationBytes = copyBytes + bytesOf(buffers);
  return budgetOf(config, plan, layout, stateBytes, activationBytes);
}

/**
 * The budget of the process that owns a cluster's state (`ClusterOwner`). Weights, moments and the next weights take 16 bytes
 * a parameter, or 24 if it also `keepsMoments` of the step before. The sums of one bucket come on top. If it `computes`
 * micro-batches itself, to check workers, a graph and 8 bytes a parameter of sums come on top.
 */
export function ownerBudget(
  config: ModelConfig,
  plan: Plan,
  keepsMoments: boolean,
  computes?: BatchShape,
): MemoryBudget {
  const layout = new ParameterLayout(config, plan);
  const bucket = bufferBytes(Math.max(...layout.buckets().map(({ size }) => size)));
  const stateBytes = (keepsMoments ? 24 : 16) * layout.allocatedValues + (keepsMoments ? 3 : 2) * bucket;
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
