import type { TokenSource } from '../data/token-source.js';
import { gatherWindow } from '../data/windows.js';
import { IGNORED_TARGET, type MicroBatch } from '../model/gpt.js';

/**
 * The windows that begin at `starts`, as micro-batches of `size` sequences each. The sequence at index i has slot i of the
 * global batch. The last micro-batch is padded with sequences without loss, which happens in evaluation only.
 */
export function microBatches(
  source: TokenSource,
  starts: readonly number[],
  context: number,
  size: number,
): MicroBatch[] {
  const batches: MicroBatch[] = [];
  for (let first = 0; first < starts.length; first += size) {
    const tokens = new Uint32Array(size * context);
    const targets = new Uint32Array(size * context).fill(IGNORED_TARGET);
    starts.slice(first, first + size).forEach((start, i) => {
      const window = gatherWindow(source, start, context);
      tokens.set(window.inputs, i * context);
      targets.set(window.targets, i * context);
    });
    batches.push({ tokens, targets, firstSlot: first });
  }
  return batches;
}
