import { stagingBytes } from '../gpu/device.js';
import { bufferBytes } from '../gpu/view.js';
import { bytesOf, samplingBuffers, trainingBuffers } from './buffers.js';
import type { ModelConfig } from './config.js';
import { f16Pieces, ParameterLayout } from './layout.js';
import type { Plan } from './plan.js';
import { samplingScratch, trainingScratch } from './products.js';
import type { BatchShape } from './shape.js';

/** What one process needs on its adapter, in bytes. */
export interface MemoryBudget {
  /** Weights, moments and 64-bit sums: 20 bytes a parameter, gaps included; of a cluster's owner see `ownerBudget`. */
  readonly stateBytes: number;
  /** In mixed precision with the weights' float16 copies. */
  readonly activationBytes: number;
  /** Key/value cache and activations of the sampling graph. */
  readonly samplingBytes: number;
  /** The buffers through which the host reads; a checkpoint reads the largest piece of the parameters at once. */
  readonly readingBytes: number;
  readonly totalBytes: number;
}

export function memoryBudget(config: ModelConfig, shape: BatchShape, plan: Plan): MemoryBudget {
  const layout = new ParameterLayout(config, plan);
  const stateBytes = 20 * layout.allocatedValues;
  const copies = shape.precision === 'f16' ? f16Pieces(layout) : [];
  const copyBytes = copies.reduce((a, { size }) => a + bufferBytes(size, true), 0);
  const buffers = trainingBuffers(config, shape, plan, trainingScratch(config, shape, plan));
  const activationBytes = copyBytes + bytesOf(buffers);
  return budgetOf(config, plan, layout, stateBytes, activationBytes);
}

/**
 * Of the process that owns a cluster's state (`ClusterOwner`): weights, moments and the next weights, 16 bytes a
 * parameter, where it `keepsMoments` the ones before as well, 24, and the sums of one bucket. Where it `computes`
 * micro-batches of a shape itself, to confirm or refute workers, a graph over its weights and 8 bytes more.
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
  const samplingBytes = bytesOf(samplingBuffers(config, samplingScratch(config, plan)));
  const readingBytes = stagingBytes(4 * Math.max(...layout.pieces.map((piece) => piece.size)));
  const totalBytes = stateBytes + activationBytes + samplingBytes + readingBytes;
  return { stateBytes, activationBytes, samplingBytes, readingBytes, totalBytes };
}
