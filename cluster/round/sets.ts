/**
 * A set of small integers (micro-batches of a step, or buckets): bit i & 31 of word i >>> 5. Missing words count as 0,
 * so the 128 bytes of a frame's header are a set for any number of micro-batches.
 */
export type IdSet = Uint32Array;

/** Largest number of micro-batches of a step or an evaluation: a frame's header has no room for more. */
export const MAX_MICRO_BATCHES = 1024;

export const setWords = (size: number): number => Math.ceil(size / 32);

export const emptySet = (size: number): IdSet => new Uint32Array(setWords(size));

/** {0, 1, ... size - 1}. */
export function fullSet(size: number): IdSet {
  const set = emptySet(size).fill(0xffffffff);
  if (size % 32 !== 0) set[set.length - 1] = 2 ** (size % 32) - 1;
  return set;
}

/** Throws RangeError for an id outside 0 .. size - 1. */
export function setOf(size: number, ids: Iterable<number>): IdSet {
  const set = emptySet(size);
  for (const id of ids) {
    if (!Number.isInteger(id) || id < 0 || id >= size) throw new RangeError(`${id} is outside 0 .. ${size - 1}`);
    insert(set, id);
  }
  return set;
}

/** A set of micro-batches of the size in a frame's header. */
export const microBatchSet = (ids: Iterable<number>): IdSet => setOf(MAX_MICRO_BATCHES, ids);

export const copySet = (a: IdSet): IdSet => a.slice();

export const has = (set: IdSet, id: number): boolean => ((set[id >>> 5] >>> (id & 31)) & 1) === 1;

export function insert(set: IdSet, id: number): void {
  set[id >>> 5] |= 1 << (id & 31);
}

export function remove(set: IdSet, id: number): void {
  set[id >>> 5] &= ~(1 << (id & 31));
}

export function insertAll(set: IdSet, other: IdSet): void {
  for (let w = 0; w < set.length; w++) set[w] |= other[w];
}

export function removeAll(set: IdSet, other: IdSet): void {
  for (let w = 0; w < set.length; w++) set[w] &= ~other[w];
}

export const isEmpty = (set: IdSet): boolean => set.every((word) => word === 0);

export const equalSets = (a: IdSet, b: IdSet): boolean => isSubset(a, b) && isSubset(b, a);

export const intersects = (a: IdSet, b: IdSet): boolean => a.some((word, w) => (word & b[w]) !== 0);

/** Whether every member of `a` is in `b`. */
export const isSubset = (a: IdSet, b: IdSet): boolean => a.every((word, w) => (word & ~b[w]) === 0);

export function countOf(set: IdSet): number {
  let count = 0;
  for (let word of set) {
    word -= (word >>> 1) & 0x55555555;
    word = (word & 0x33333333) + ((word >>> 2) & 0x33333333);
    count += (((word + (word >>> 4)) & 0x0f0f0f0f) * 0x01010101) >>> 24;
  }
  return count;
}

/** The largest member; -1 of an empty set. */
export function lastOf(set: IdSet): number {
  const w = set.findLastIndex((word) => word !== 0);
  return w < 0 ? -1 : 32 * w + 31 - Math.clz32(set[w]);
}

/** The members, ascending. */
export function* membersOf(set: IdSet): Generator<number> {
  for (let w = 0; w < set.length; w++) {
    for (let word = set[w]; word !== 0; word &= word - 1) yield 32 * w + 31 - Math.clz32(word & -word);
  }
}

export const idsOf = (set: IdSet): number[] => [...membersOf(set)];

/** Takes the `count` smallest members out of `set` and returns them. */
export function takeFirst(set: IdSet, count: number): IdSet {
  const taken = new Uint32Array(set.length);
  for (const id of membersOf(set)) {
    if (count-- <= 0) break;
    insert(taken, id);
  }
  removeAll(set, taken);
  return taken;
}
