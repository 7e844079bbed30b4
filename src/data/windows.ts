import { LantrainError } from '../errors.js';
import { deriveKey, permutation, Stream } from '../util/random.js';
import type { TokenSource } from './token-source.js';

export interface WindowOptions {
  /** Length of the part in tokens. */
  readonly tokens: number;
  /** Tokens of context. A window has one more: the last target. */
  readonly context: number;
  /** Tokens from the start of a window to the start of the next. */
  readonly stride: number;
  /** Windows in one global batch. */
  readonly batch: number;
  /** True: a new order for every epoch, from `seed`. False: the order of the text. */
  readonly shuffle: boolean;
  readonly seed: number;
  /** Default `training`. A validation part need not fill a batch. */
  readonly part?: 'training' | 'validation';
}

/**
 * The windows of `context` + 1 tokens of one part, and their order in training. Everything is a function of the options
 * and the step.
 *
 * The constructor throws LT_DATA_SHORT where the part has no window, or a training part has fewer windows than a batch.
 */
export class Windows {
  readonly windowCount: number;
  /** Whole batches in an epoch. The incomplete batch at its end is dropped. */
  readonly stepsPerEpoch: number;
  private order: { readonly epoch: number; readonly windows: Uint32Array } | undefined;

  constructor(private readonly options: WindowOptions) {
    const { tokens, context, stride, batch, part = 'training' } = options;
    if (stride < 1) throw new LantrainError('LT_USAGE_OPTION', `--stride is ${stride}: it must be at least 1`);
    if (batch < 1) throw new LantrainError('LT_USAGE_BATCH', `--batch is ${batch}: it must be at least 1`);
    this.windowCount = tokens > context ? Math.floor((tokens - context - 1) / stride) + 1 : 0;
    this.stepsPerEpoch = Math.floor(this.windowCount / batch);
    const ratio =
      part === 'training' ? 'a smaller --val-ratio' : 'a larger --val-ratio (or 0, for a run without validation)';
    if (this.windowCount === 0) {
      throw new LantrainError(
        'LT_DATA_SHORT',
        `the ${part} part has ${count(tokens, 'token')}, but one window needs ${context + 1} (--context ${context} ` +
          `and one): use a smaller --context, ${ratio} or more text`,
      );
    }
    if (part === 'training' && this.stepsPerEpoch === 0) {
      throw new LantrainError(
        'LT_DATA_SHORT',
        `the training part has ${count(tokens, 'token')}, which make ${count(this.windowCount, 'window')} of ` +
          `${context + 1}, but one batch needs ${batch}: use a smaller --batch, --stride or --context, or more text`,
      );
    }
  }

  epochOf(step: number): number {
    return Math.floor(step / this.stepsPerEpoch);
  }

  /** The first token of each window in the global batch of `step` (from 0). Steps continue over epochs. */
  startsOf(step: number): number[] {
    const { batch, stride } = this.options;
    const windows = this.orderOf(this.epochOf(step));
    const first = (step % this.stepsPerEpoch) * batch;
    return Array.from({ length: batch }, (_, i) => (windows ? windows[first + i] : first + i) * stride);
  }

  /** The windows of the first `batches` batches in the order of the text. The last batch may be incomplete. */
  evaluationBatches(batches: number): number[][] {
    const { batch, stride } = this.options;
    const windows = Math.min(this.windowCount, batches * batch);
    return Array.from({ length: Math.ceil(windows / batch) }, (_, b) =>
      Array.from({ length: Math.min(batch, windows - b * batch) }, (_, i) => (b * batch + i) * stride),
    );
  }

  private orderOf(epoch: number): Uint32Array | undefined {
    if (!this.options.shuffle) return undefined;
    if (this.order?.epoch !== epoch) {
      const key = deriveKey(this.options.seed, Stream.shuffle, epoch);
      this.order = { epoch, windows: permutation(key, this.windowCount) };
    }
    return this.order.windows;
  }
}

/**
 * The window at `start`: inputs are tokens [start, start + context), targets are tokens [start + 1, start + context +
 * 1). Both are views of one array.
 */
export function gatherWindow(
  source: TokenSource,
  start: number,
  context: number,
): { inputs: Uint16Array; targets: Uint16Array } {
  const window = source.read(start, context + 1);
  return { inputs: window.subarray(0, context), targets: window.subarray(1) };
}

function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? '' : 's'}`;
}
