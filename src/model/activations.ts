import { LantrainError } from '../errors.js';
import { bufferBytes, type Gpu, stagingBytes, type View } from '../gpu/device.js';
import type { ModelConfig } from './config.js';
import { halfPieces, ParameterLayout } from './layout.js';
import type { Plan } from './plan.js';
import { samplingScratch, trainingScratch } from './products.js';
import { type BatchShape, headPasses, logitsStride } from './shape.js';

/** What is float16 in mixed precision: all that matrix products and attention read, but for the logits. */
const HALVES = new Set('norm1 qkv attention norm2 hidden gelu final dNorm dHidden dAttention dQkv dDropped'.split(' '));

/** Whether the buffer `name` (of any layer) of a graph holds float16. */
export function isHalf(shape: BatchShape, name: string): boolean {
  return shape.precision === 'f16' && HALVES.has(name.split('.')[0]);
}

/** The buffer that holds `name` of a layer: one a layer, or one for all where backward computes it again. */
export function layerBuffer(shape: BatchShape, name: string, layer: number): string {
  return shape.recompute ? name : `${name}.${layer}`;
}

/** Dropout sites: the embedding, and in each layer attention, its projection and the feed-forward's projection. */
export const Site = {
  embedding: 0,
  attention: (layer: number) => 1 + 3 * layer,
  attentionProjection: (layer: number) => 2 + 3 * layer,
  feedForward: (layer: number) => 3 + 3 * layer,
  count: (layers: number) => 1 + 3 * layers,
} as const;

/**
 * The name and the number of 32-bit values of every buffer that one graph works in, besides the parameters. With
 * `gradients` false, only what the forward pass needs.
 */
export function activationSizes(
  config: ModelConfig,
  shape: BatchShape,
  plan: Plan,
  gradients: boolean,
): Map<string, number> {
  const { width: C, heads: H, layers } = config;
  const M = (shape.stack ?? 1) * shape.batch * shape.context;
  const sizes = new Map<string, number>();
  sizes.set('tokens', M).set('targets', M).set('losses', M);
  for (let l = 0; l < layers; l++) {
    const layer = (name: string, values: number) => void sizes.set(layerBuffer(shape, name, l), values);
    sizes.set(`x.${l}`, M * C);
    layer('norm1', M * C);
    layer('stats1', 2 * M);
    layer('qkv', 3 * M * C);
    layer('attention', M * C);
    layer('logsumexp', M * H);
    layer('middle', M * C);
    layer('norm2', M * C);
    layer('stats2', 2 * M);
    layer('hidden', 4 * M * C);
    layer('gelu', 4 * M * C);
  }
  sizes
    .set(`x.${layers}`, M * C)
    .set('final', M * C)
    .set('finalStats', 2 * M);
  const logitsRows = Math.max(...headPasses(config, shape, plan).map(({ rows, stack }) => rows * stack));
  sizes.set('logits', logitsRows * logitsStride(config));
  const scratch = trainingScratch(config, shape, plan);
  if (scratch > 0) sizes.set('scratch', scratch);
  if (!gradients) return sizes;
  sizes
    .set('lists', 1 + 3 * M)
    .set('dx', M * C)
    .set('dNorm', M * C)
    .set('dHidden', 4 * M * C);
  sizes
    .set('dAttention', M * C)
    .set('delta', M * H)
    .set('dQkv', 3 * M * C);
  if (shape.dropout > 0) sizes.set('dDropped', M * C);
  return sizes;
}

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
  const copies = shape.precision === 'f16' ? halfPieces(layout) : [];
  const copyBytes = copies.reduce((a, { size }) => a + bufferBytes(size, true), 0);
  const sizes = activationSizes(config, shape, plan, true);
  const activationBytes = [...sizes].reduce((a, [name, n]) => a + bufferBytes(n, isHalf(shape, name)), copyBytes);
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
  const samplingBytes = [...decoderSizes(config, plan).values()].reduce((a, n) => a + bufferBytes(n), 0);
  const readingBytes = stagingBytes(4 * Math.max(...layout.pieces.map((piece) => piece.size)));
  const totalBytes = stateBytes + activationBytes + samplingBytes + readingBytes;
  return { stateBytes, activationBytes, samplingBytes, readingBytes, totalBytes };
}

/** The buffers of the sampling graph: one token at a time, keys and values of all earlier ones kept. */
export function decoderSizes(config: ModelConfig, plan: Plan): Map<string, number> {
  const { width: C, heads: H, layers, context: T } = config;
  const sizes = new Map<string, number>();
  sizes
    .set('token', 1)
    .set('x', C)
    .set('norm', C)
    .set('stats', 2)
    .set('qkv', 3 * C)
    .set('attention', C);
  sizes
    .set('middle', C)
    .set('hidden', 4 * C)
    .set('gelu', 4 * C)
    .set('scores', H * T);
  sizes.set('logits', logitsStride(config));
  const scratch = samplingScratch(config, plan);
  if (scratch > 0) sizes.set('scratch', scratch);
  for (let l = 0; l < layers; l++) sizes.set(`cache.${l}`, T * 2 * C);
  return sizes;
}

/** Creates a buffer for each entry. Throws LT_GPU_MEMORY when one exceeds what a binding may hold. */
export async function allocateSizes(
  gpu: Gpu,
  sizes: Map<string, number>,
  plan: Plan,
  half: (name: string) => boolean = () => false,
): Promise<Map<string, View>> {
  const views = new Map<string, View>();
  for (const [name, values] of sizes) {
    if (values > plan.windowValues && name !== 'logits')
      throw new LantrainError(
        'LT_GPU_MEMORY',
        `activation ${name} of ${4 * values} bytes exceeds one binding (${4 * plan.windowValues}); lower --micro-batch`,
      );
    views.set(name, await gpu.buffer(name, values, half(name)));
  }
  return views;
}
