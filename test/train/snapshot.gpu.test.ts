import { afterAll, beforeAll, expect, test } from 'vitest';
import { STATE_PARTS } from '../../src/checkpoint/digest.js';
import { readShared } from '../../src/checkpoint/shared-state.js';
import { Gpu } from '../../src/gpu/device.js';
import { KernelCache } from '../../src/gpu/kernel.js';
import { ParameterLayout } from '../../src/model/layout.js';
import { openDawn } from '../../src/node/dawn.js';
import { loadShaders } from '../../src/node/shaders.js';
import { arenaOf } from '../../src/run/checkpoint-writer.js';
import { TrainingState } from '../../src/train/optimizer.js';
import { StateSnapshot } from '../../src/train/snapshot.js';

const MODEL = { vocabSize: 300, context: 8, width: 24, layers: 1, heads: 3, tie: false, qkvBias: true };

let gpu: Gpu;
beforeAll(async () => {
  gpu = await Gpu.open(openDawn());
});
afterAll(() => gpu.device.destroy());

test('a copy of the state keeps its bits while the state changes, with tensors in several windows and slabs', async () => {
  const layout = new ParameterLayout(MODEL, { windowValues: 2 ** 12, slabValues: 2 ** 13 });
  expect(layout.slabSizes.length).toBeGreaterThan(1);
  expect(layout.piecesOf('wte.weight').length).toBeGreaterThan(1);
  const state = await TrainingState.allocate(new KernelCache(gpu, loadShaders()), layout, {
    beta1: 0.9,
    beta2: 0.99,
    epsilon: 1e-8,
    weightDecay: 0.1,
    decay: 'all',
  });
  const engine = { state };
  const expected = new Map<string, Float32Array>();
  const fill = (salt: number) => {
    for (const part of STATE_PARTS)
      for (const [i, { name, size }] of layout.parameters.entries()) {
        const values = Float32Array.from({ length: size }, (_, at) => salt + i * 1e-3 + at + part.length * 0.25);
        arenaOf(engine, part).write(gpu, name, values);
        if (salt === 0) expected.set(`${part} ${name}`, values);
      }
  };
  fill(0);
  const snapshot = new StateSnapshot(layout);
  await snapshot.take(state);
  fill(1000);
  await gpu.done();
  const read = readShared(snapshot);
  for (const part of STATE_PARTS)
    for (const { name } of layout.parameters)
      expect(await read(part, name), `${part} ${name}`).toEqual(expected.get(`${part} ${name}`));
  await snapshot.take(state);
  expect((await readShared(snapshot)('weights', 'wte.weight'))[0]).toBe(1000 + 7 * 0.25);
});
