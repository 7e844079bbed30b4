import { ALIGN_VALUES, alignValues } from '../gpu/view.js';
import type { ModelConfig } from './config.js';
import type { Plan } from './plan.js';
import type { Precision } from './precision.js';
import type { Wire } from './wire.js';

/** The fixed shape of one micro-batch. */
export interface BatchShape {
  /** B: sequences of one micro-batch. */
  readonly batch: number;
  /** T: tokens of one sequence. */
  readonly context: number;
  /** The probability that dropout drops a value; 0 leaves dropout out of the graph. */
  readonly dropout: number;
  /**
   * Whether only the input of every layer is kept, and backward computes the rest again, by the same kernels under the same
   * dropout keys: less memory, more time, the same bits.
   */
  readonly recompute?: boolean;
  /**
   * `portable`: arithmetic whose bits no driver can choose (shaders/portable.wgsl). `f32`, the default: float32 as the
   * adapter computes it. `f16`: matrix products and attention read float16.
   */
  readonly precision?: Precision;
  /** How gradients are rounded, and how weights move. Default `exact`. */
  readonly wire?: Wire;
  /**
   * Micro-batches that one pass over the weights computes at once, their rows one below another. Default 1. Each
   * micro-batch's gradients are rounded to fixed point on their own: the same bits, in more memory and less time.
   */
  readonly stack?: number;
}

/** The leading dimension of logits: the vocabulary, padded so that windows of the head start on aligned offsets. */
export function logitsStride(config: ModelConfig): number {
  return alignValues(config.vocabSize);
}

/**
 * Row chunks [start, rows] of one micro-batch's head, as equal as multiples of 64 rows allow. Multiples of 64, so that views
 * with one value a row start on aligned offsets.
 */
export function headChunks(config: ModelConfig, shape: BatchShape, plan: Plan): [number, number][] {
  const rows = shape.batch * shape.context;
  const most = Math.max(1, Math.floor(plan.logitsValues / logitsStride(config) / 64)) * 64;
  const each = Math.ceil(Math.ceil(rows / Math.ceil(rows / most)) / 64) * 64;
  const chunks: [number, number][] = [];
  for (let start = 0; start < rows; start += each) chunks.push([start, Math.min(each, rows - start)]);
  return chunks;
}

/** Rows that the head computes at once: `stack` times `rows`, from row `start` on. */
export interface HeadPass {
  readonly start: number;
  readonly rows: number;
  readonly stack: number;
}

/**
 * The passes of the head over a stack of micro-batches: their chunks one by one. Where a chunk is a whole micro-batch, a pass
 * takes as many micro-batches as fit their logits into one binding.
 */
export function headPasses(config: ModelConfig, shape: BatchShape, plan: Plan): HeadPass[] {
  const { batch, context, stack = 1 } = shape;
  const rows = batch * context;
  const chunks = headChunks(config, shape, plan);
  const most = Math.floor(plan.windowValues / (rows * logitsStride(config)));
  const together = divisorsOf(stack).find((n) => chunks.length === 1 && n <= most && isAligned(n, stack, rows)) ?? 1;
  return Array.from({ length: stack / together }, (_, i) => i * together * rows).flatMap((first) =>
    chunks.map(([start, count]) => ({ start: first + start, rows: count, stack: together })),
  );
}

/** Whether views with one value a row can be bound at the start of each pass of `n` micro-batches. */
function isAligned(n: number, stack: number, rows: number): boolean {
  return n === stack || (n * rows) % ALIGN_VALUES === 0;
}

/** The divisors of `n`, the largest first. */
export function divisorsOf(n: number): number[] {
  return Array.from({ length: n }, (_, i) => n - i).filter((d) => n % d === 0);
}
