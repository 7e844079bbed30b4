import type { ReadState, StatePart } from './digest.js';

/** A copy of the state in memory that threads share. */
export interface SharedState {
  /** Each part in pieces of memory, cut as its owner likes. */
  readonly memory: Readonly<Record<StatePart, readonly SharedArrayBuffer[]>>;
  /** Where each tensor lies in every part: consecutive ranges, in float32 values. */
  readonly places: Readonly<Record<string, readonly MemoryRange[]>>;
}

export interface MemoryRange {
  /** Which piece of memory. */
  readonly slab: number;
  readonly offset: number;
  readonly size: number;
}

/** Reads tensors of it. One that lies in a single range is not copied. */
export function readShared({ memory, places }: SharedState): ReadState {
  return (part, name) => {
    const ranges = places[name].map(({ slab, offset, size }) => new Float32Array(memory[part][slab], 4 * offset, size));
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
