import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { digestState, STATE_PARTS, StateDigest } from '../../src/checkpoint/digest.js';
import { parameters } from '../../src/model/parameters.js';
import { state, TINY } from './helpers.js';

test('the digest is SHA-256 over weights, first moments, second moments and the step, little-endian', async () => {
  const read = state(TINY);
  const list = parameters(TINY);
  const floats = (['weights', 'm', 'v'] as const).flatMap((part) => list.flatMap(({ name }) => [...read(part, name)]));
  const bytes = Buffer.alloc(4 * floats.length + 8);
  for (const [i, value] of floats.entries()) bytes.writeFloatLE(value, 4 * i);
  const step = 2 ** 40 + 3;
  bytes.writeBigUInt64LE(BigInt(step), 4 * floats.length);
  expect(await digestState(TINY, step, read)).toBe(createHash('sha256').update(bytes).digest('hex'));
});

test('a view into a larger array is hashed as what it shows', async () => {
  const read = state(TINY);
  const view = (part: (typeof STATE_PARTS)[number], name: string) => {
    const values = read(part, name);
    const larger = new Float32Array(values.length + 10).fill(9);
    larger.set(values, 4);
    return Promise.resolve(larger.subarray(4, 4 + values.length));
  };
  expect(await digestState(TINY, 5, view)).toBe(await digestState(TINY, 5, read));
});

test('one bit of any part, and the step, change the digest', async () => {
  const digests = new Set([await digestState(TINY, 5, state(TINY)), await digestState(TINY, 6, state(TINY))]);
  for (const changed of STATE_PARTS)
    digests.add(
      await digestState(TINY, 5, (part, name) => {
        const values = state(TINY)(part, name);
        if (part === changed && name === 'ln_f.bias') new Uint32Array(values.buffer)[5] ^= 1;
        return values;
      }),
    );
  expect(digests.size).toBe(5);
});

test('tensors out of order, of a wrong length, too few or too many are refused', () => {
  const [first, second] = parameters(TINY);
  const read = state(TINY);
  expect(() => new StateDigest(TINY).add('weights', second.name, read('weights', second.name))).toThrow(RangeError);
  expect(() => new StateDigest(TINY).add('m', first.name, read('m', first.name))).toThrow(RangeError);
  expect(() => new StateDigest(TINY).add('weights', first.name, new Float32Array(3))).toThrow(RangeError);
  expect(() => new StateDigest(TINY).finish(1)).toThrow(RangeError);
});
