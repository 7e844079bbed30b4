import fc from 'fast-check';
import { expect, test } from 'vitest';
import { thin } from '../../src/report/thin.js';

test('thinning keeps order, both ends and every extreme, in about as many as asked for', () => {
  const number = fc.oneof(fc.double({ noNaN: true, min: -1e9, max: 1e9 }), fc.constant(Number.NaN));
  const pairs = fc.array(fc.tuple(number, number), { minLength: 1, maxLength: 600 });
  fc.assert(
    fc.property(pairs, fc.integer({ min: 8, max: 100 }), (values, most) => {
      const items = values.map(([a, b], i) => ({ i, a, b }));
      const kept = thin(items, most, [({ a }) => a, ({ b }) => b]);
      expect(kept.length).toBeLessThanOrEqual(Math.max(most, 8));
      expect(kept.map(({ i }) => i)).toEqual(kept.map(({ i }) => i).toSorted((x, y) => x - y));
      expect([kept[0], kept[kept.length - 1]]).toEqual([items[0], items[items.length - 1]]);
      for (const key of ['a', 'b'] as const) {
        const finite = (list: typeof items) => list.map((item) => item[key]).filter(Number.isFinite);
        if (finite(items).length === 0) continue;
        expect(Math.max(...finite(kept))).toBe(Math.max(...finite(items)));
        expect(Math.min(...finite(kept))).toBe(Math.min(...finite(items)));
      }
    }),
  );
});

test('thinning leaves alone what is short enough', () => {
  expect(thin([3, 1, 2], 3, [(x) => x])).toEqual([3, 1, 2]);
});
