import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { digestState, StateDigest, type StatePart, statePartsOf } from '../../src/checkpoint/digest.js';
import { parameters } from '../../src/model/parameters.js';
import { WIRES } from '../../src/model/wire.js';
import { state, TINY } from './helpers.js';

test.each([
  ['weights, first moments, second moments', 'exact', ['weights', 'm', 'v']],
  ['weights, master weights, first moments, second moments', 'low', ['weights', 'master', 'm', 'v']],
] as const)('the digest is SHA-256 over %s and the step, little-endian, in the wire %s', async (_, wire, parts) => {
  const read = state(TINY);
  const list = parameters(TINY);
  const floats = parts.flatMap((part) => list.flatMap(({ name }) => [...read(part, name)]));
  const bytes = Buffer.alloc(4 * floats.length + 8);
  for (const [i, value] of floats.entries()) bytes.writeFloatLE(value, 4 * i);
  const step = 2 ** 40 + 3;
  bytes.writeBigUInt64LE(BigInt(step), 4 * floats.length);
  const digest = createHash('sha256').update(bytes).digest('hex');
  expect(await digestState(TINY, step, read, wire)).toBe(digest);
  if (wire === 'exact') expect(await digestState(TINY, step, read)).toBe(digest);
});

test('a view into a larger array is hashed as what it shows', async () => {
  const read = state(TINY);
  const view = (part: StatePart, name: string) => {
    const values = read(part, name);
    const larger = new Float32Array(values.length + 10).fill(9);
    larger.set(values, 4);
    return Promise.resolve(larger.subarray(4, 4 + values.length));
  };
  expect(await digestState(TINY, 5, view)).toBe(await digestState(TINY, 5, read));
});

test.each(WIRES)('one bit of any part, and the step, change the digest in the wire %s', async (wire) => {
  const digest = (step: number, changed?: StatePart) =>
    digestState(
      TINY,
      step,
      (part, name) => {
        const values = state(TINY)(part, name);
        if (part === changed && name === 'ln_f.bias') new Uint32Array(values.buffer)[5] ^= 1;
        return values;
      },
      wire,
    );
  const digests = new Set([await digest(5), await digest(6)]);
  for (const changed of statePartsOf(wire)) digests.add(await digest(5, changed));
  expect(digests.size).toBe(wire === 'low' ? 6 : 5);
});

test('tensors out of order, of a wrong length, too few or too many are refused', () => {
  const [first, second] = parameters(TINY);
  const read = state(TINY);
  expect(() => new StateDigest(TINY).add('weights', second.name, read('weights', second.name))).toThrow(RangeError);
  expect(() => new StateDigest(TINY).add('m', first.name, read('m', first.name))).toThrow(RangeError);
  expect(() => new StateDigest(TINY).add('weights', first.name, new Float32Array(3))).toThrow(RangeError);
  expect(() => new StateDigest(TINY).finish(1)).toThrow(RangeError);
  const low = new StateDigest(TINY, 'low');
  for (const { name } of parameters(TINY)) low.add('weights', name, read('weights', name));
  expect(() => low.add('m', first.name, read('m', first.name))).toThrow('where master wte.weight');
});
