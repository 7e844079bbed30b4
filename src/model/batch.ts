/*
 * Micro-batches on the host, in the form that the graph takes.
 */

/** A target that has no loss: padding of incomplete micro-batches in evaluation. */
export const IGNORED_TARGET = 0xffffffff;

/** Consecutive sequences of a global batch; all arrays are [B x T]. */
export interface MicroBatch {
  readonly tokens: Uint32Array;
  readonly targets: Uint32Array;
  /** The slot of the first sequence in the global batch. */
  readonly firstSlot: number;
}

/** What the dropout masks of a training step depend on, and the factors of losses and gradients. */
export interface StepContext {
  readonly seed: number;
  readonly step: number;
  /** 1 / (tokens of the global batch). */
  readonly tokenWeight: number;
  /** The exponent of the loss scale, a factor of gradients until they are rounded to fixed point. Default 0. */
  readonly scaleExponent?: number;
}

export function asList(batches: MicroBatch | readonly MicroBatch[]): readonly MicroBatch[] {
  return 'tokens' in batches ? [batches] : batches;
}

/** Whether the slots of `batches`, of `size` sequences each, are consecutive. */
export function areConsecutive(batches: readonly MicroBatch[], size: number): boolean {
  return batches.every((batch, i) => batch.firstSlot === batches[0].firstSlot + i * size);
}

/** Arrays of equal length, concatenated. */
export function joined([first, ...rest]: readonly Uint32Array[]): Uint32Array {
  if (rest.length === 0) return first;
  const all = new Uint32Array(first.length * (1 + rest.length));
  [first, ...rest].forEach((part, i) => void all.set(part, i * first.length));
  return all;
}

/** The rows of a stack of micro-batches sorted by (token, row), in the layout that `shaders/embedding.wgsl` describes. */
export function tokenLists(tokens: Uint32Array): Uint32Array {
  const M = tokens.length;
  const lists = new Uint32Array(1 + 3 * M);
  // Tokens stay below 2^20 and rows below 2^32, so one float64 key sorts by both.
  const order = Float64Array.from(tokens, (token, row) => token * 2 ** 32 + row).sort();
  let unique = 0;
  let previous = -1;
  order.forEach((key, i) => {
    const token = Math.floor(key / 2 ** 32);
    if (token !== previous) {
      lists[1 + unique] = token;
      lists[1 + M + unique] = i;
      unique++;
      previous = token;
    }
    lists[1 + 2 * M + i] = key % 2 ** 32;
  });
  lists[0] = unique;
  return lists;
}
