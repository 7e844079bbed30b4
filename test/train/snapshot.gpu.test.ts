import { afterAll, beforeAll, expect, test } from 'vitest';
import { statePartsOf } from '../../src/checkpoint/digest.js';
import { readShared } from '../../src/checkpoint/shared-state.js';
import { Gpu } from '../../src/gpu/device.js';
import { KernelCache } from '../../src/gpu/kernel.js';
import { GridArena } from '../../src/model/grid.js';
import { ParameterLayout } from '../../src/model/layout.js';
import { WIRES } from '../../src/model/wire.js';
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

test.each(WIRES)(
  'a copy of the state keeps its bits while the state changes, tensors in several windows and slabs, in the wire %s',
  async (wire) => {
    const layout = new ParameterLayout(MODEL, { windowValues: 2 ** 12, slabValues: 2 ** 13 });
    expect(layout.slabSizes.length).toBeGreaterThan(1);
    expect(layout.piecesOf('wte.weight').length).toBeGreaterThan(1);
    const adamw = { beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weightDecay: 0.1, decay: 'all' } as const;
    const low = wire === 'low' ? { grid: await GridArena.allocate(gpu, layout), microBatches: 1 } : undefined;
    const state = await TrainingState.allocate(new KernelCache(gpu, loadShaders()), layout, adamw, false, low);
    const engine = { state };
    const parts = statePartsOf(wire);
    const expected = new Map<string, Float32Array>();
    const fill = (salt: number) => {
      for (const part of parts)
        for (const [i, { name, size }] of layout.parameters.entries()) {
          const values = Float32Array.from({ length: size }, (_, at) => salt + i * 1e-3 + at + part.length * 0.25);
          arenaOf(engine, part).write(gpu, name, values);
          if (salt === 0) expected.set(`${part} ${name}`, values);
        }
    };
    fill(0);
    const snapshot = new StateSnapshot(layout, wire);
    const memory = Object.values(snapshot.memory).flat();
    expect(memory.reduce((sum, { byteLength }) => sum + byteLength, 0)).toBe(StateSnapshot.bytes(layout, wire));
    expect(StateSnapshot.bytes(layout, wire)).toBe((wire === 'low' ? 16 : 12) * layout.allocatedValues);
    await snapshot.take(state);
    fill(1000);
    await gpu.done();
    const read = readShared(snapshot);
    for (const part of parts)
      for (const { name } of layout.parameters)
        expect(await read(part, name), `${part} ${name}`).toEqual(expected.get(`${part} ${name}`));
    await snapshot.take(state);
    expect((await readShared(snapshot)('weights', 'wte.weight'))[0]).toBe(1000 + 7 * 0.25);
    if (wire === 'exact') expect(() => arenaOf(engine, 'master')).toThrow('the state has no master');
    if (wire === 'exact') expect(() => read('master', 'wte.weight')).toThrow('the state has no master');
  },
);
