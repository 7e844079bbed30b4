import type { ReadState, StatePart } from './digest.js';

/** A copy of the training state in memory that threads share. */
export interface SharedState {
  /** The buffers of each part that the state has. Their number and sizes are the owner's choice. */
  readonly memory: Readonly<Partial<Record<StatePart, readonly SharedArrayBuffer[]>>>;
  /** The ranges of each tensor, the same in every part, in the tensor's order. */
  readonly places: Readonly<Record<string, readonly MemoryRange[]>>;
}

export interface MemoryRange {
  /** The buffer's index in `memory`; `offset` and `size` count float32 values. */
  readonly slab: number;
  readonly offset: number;
  readonly size: number;
}

/** A reader of its tensors. A tensor in a single range is returned without a copy. */
export function readShared({ memory, places }: SharedState): ReadState {
  return (part, name) => {
    const slabs = memory[part];
    if (slabs === undefined) throw new RangeError(`the state has no ${part}`);
    const ranges = places[name].map(({ slab, offset, size }) => new Float32Array(slabs[slab], 4 * offset, size));
    if (ranges.length === 1) return ranges[0];
    const all = new Float32Array(ranges.reduce((sum, { length }) => sum + length, 0));
    let at = 0;
    for (const range of ranges) {
      all.set(range, at);
      at += range.length;
    }
    return all;
  };
}
