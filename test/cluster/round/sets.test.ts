import fc from 'fast-check';
import { expect, test } from 'vitest';
import * as sets from '../../../cluster/round/sets.js';
import { BOUNDS } from '../../../src/model/config.js';

const ids = fc.uniqueArray(fc.nat(sets.MAX_MICRO_BATCHES - 1));
const ascending = (list: readonly number[]) => [...list].sort((a, b) => a - b);

test('a set has what was put in, in ascending order, and knows its count and its last member', () => {
  fc.assert(
    fc.property(ids, (list) => {
      const set = sets.microBatchSet(list);
      expect(sets.idsOf(set)).toEqual(ascending(list));
      expect(sets.countOf(set)).toBe(list.length);
      expect(sets.lastOf(set)).toBe(Math.max(-1, ...list));
      expect(sets.isEmpty(set)).toBe(list.length === 0);
    }),
  );
});

test('sets of different sizes are compared, joined and parted as if the words that are not there were 0', () => {
  const small = fc.uniqueArray(fc.nat(39));
  fc.assert(
    fc.property(small, ids, (few, many) => {
      const [a, b] = [sets.setOf(40, few), sets.microBatchSet(many)];
      expect(sets.isSubset(a, b)).toBe(few.every((id) => many.includes(id)));
      expect(sets.isSubset(b, a)).toBe(many.every((id) => few.includes(id)));
      expect(sets.intersects(a, b)).toBe(few.some((id) => many.includes(id)));
      expect(sets.equalSets(a, sets.microBatchSet(few))).toBe(true);
      sets.insertAll(b, a);
      expect(sets.idsOf(b)).toEqual(ascending([...new Set([...few, ...many])]));
      sets.removeAll(b, a);
      expect(sets.idsOf(b)).toEqual(ascending(many.filter((id) => !few.includes(id))));
    }),
  );
});

test('an id that a set has no place for is refused, not dropped', () => {
  for (const id of [-1, 40, 1.5, Number.NaN]) expect(() => sets.setOf(40, [3, id])).toThrow(RangeError);
  expect(() => sets.microBatchSet([sets.MAX_MICRO_BATCHES])).toThrow(RangeError);
});

test('a set holds as many micro-batches as a step may have', () => {
  expect(sets.MAX_MICRO_BATCHES).toBe(BOUNDS.microBatches);
});
