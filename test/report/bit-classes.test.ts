import fc from 'fast-check';
import { expect, test } from 'vitest';
import { bitClassesOf, nameBitClasses } from '../../src/report/bit-classes.js';

test('classes have letters in their order, and as much of both hashes as tells them apart', () => {
  const classes = ['a3f082fd8f0e-85729a31a95a', 'a3f082fd8f0e-857298765432', '000000000000-85729a31a95a'];
  expect([...nameBitClasses(classes.slice(0, 1)).values()]).toEqual(['A a3f0-8572']);
  expect([...nameBitClasses(classes).values()]).toEqual(['A a3f082-85729a', 'B a3f082-857298', 'C 000000-85729a']);
});

test('the class of portable arithmetic has its name, the others keep their letters', () => {
  const names = nameBitClasses(['portable', 'a3f082fd8f0e-85729a31a95a']);
  expect([...names.values()]).toEqual(['portable', 'B a3f0-8572']);
});

test('no two classes are called alike, and letters stay when others come', () => {
  const hash = fc.string({ unit: fc.constantFrom('0', 'f'), minLength: 12, maxLength: 12 });
  const bitClass = fc.tuple(hash, hash).map((halves) => halves.join('-'));
  fc.assert(
    fc.property(fc.uniqueArray(bitClass, { minLength: 2, maxLength: 60 }), (classes) => {
      const names = nameBitClasses(classes);
      expect(names.size).toBe(classes.length);
      expect(new Set(names.values()).size).toBe(classes.length);
      expect(new Set([...names.values()].map((name) => name.split(' ')[1])).size).toBe(classes.length);
      expect(new Set([...names.values()].map((name) => name.split(' ')[0])).size).toBe(classes.length);
      const fewer = nameBitClasses(classes.slice(0, -1));
      for (const [one, name] of fewer) expect(names.get(one)?.split(' ')[0]).toBe(name.split(' ')[0]);
    }),
  );
});

test("a run's classes are found in its events, the owner's first", () => {
  const reason = "bit class b-2, the owner's is a-1: the digest is not exact from here";
  expect(
    bitClassesOf([
      { event: 'join', step: 0, worker: 'w', reason: 'bit class c-3' },
      { event: 'mixed', step: 0, worker: 'v', reason },
      { event: 'join', step: 0, worker: 'v', reason: 'bit class b-2' },
    ]),
  ).toEqual({ classes: ['a-1', 'c-3', 'b-2'], mixed: true });
  expect(bitClassesOf([{ event: 'join', step: 0, worker: 'w', reason: 'bit class a-1' }])).toEqual({
    classes: ['a-1'],
    mixed: false,
  });
});
