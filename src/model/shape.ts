import { alignValues } from '../gpu/device.js';
import type { ModelConfig } from './config.js';
import type { Plan } from './plan.js';

/** The fixed shape of one micro-batch. */
export interface BatchShape {
  /** B: sequences of one micro-batch. */
  readonly batch: number;
  /** T: tokens of one sequence. */
  readonly context: number;
  /** The probability that dropout drops a value; 0 leaves dropout out of the graph. */
  readonly dropout: number;
  /**
   * Of every layer only the input is kept; backward computes the rest of it again, by the same kernels under the same
   * dropout keys: less memory, more time, the same bits.
   */
  readonly recompute?: boolean;
  /** `f16`: what matrix products and attention read is kept in float16. */
  readonly precision?: Precision;
}

export const PRECISIONS = ['f32', 'f16'] as const;
export type Precision = (typeof PRECISIONS)[number];

/** Values that the logits of one chunk take a row, padded so that windows of the head start on aligned offsets. */
export function logitsStride(config: ModelConfig): number {
  return alignValues(config.vocabSize);
}

/** Row chunks [start, rows] of the head, as equal as multiples of 64 (aligned offsets of one value a row) allow. */
export function headChunks(config: ModelConfig, shape: BatchShape, plan: Plan): [number, number][] {
  const rows = shape.batch * shape.context;
  const most = Math.max(1, Math.floor(plan.logitsValues / logitsStride(config) / 64)) * 64;
  const each = Math.ceil(Math.ceil(rows / Math.ceil(rows / most)) / 64) * 64;
  const chunks: [number, number][] = [];
  for (let start = 0; start < rows; start += each) chunks.push([start, Math.min(each, rows - start)]);
  return chunks;
}
