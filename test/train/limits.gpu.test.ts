import { expect, test } from 'vitest';
import { Gpu, type GpuOptions } from '../../src/gpu/device.js';
import { defaultPlan } from '../../src/model/plan.js';
import { openDawn } from '../../src/node/dawn.js';
import { loadGolden } from '../reference/golden.js';
import { slowTest } from '../slow.js';
import { goldenEngine, goldenMicroBatches, stateHash } from './fixture.js';

const golden = loadGolden('tied');

/** Two updates with dropout on a device of its own. */
async function run(options: GpuOptions) {
  const gpu = await Gpu.open(openDawn(), options);
  const engine = await goldenEngine(gpu, golden, { microBatch: 1, dropout: 0.1, clip: 0.5 });
  for (let step = 1; step <= 2; step++) await engine.step(goldenMicroBatches(golden, step, 1), step, 5, 1e-3);
  const result = {
    hash: await stateHash(engine),
    plan: defaultPlan(gpu.adapter),
    binding: gpu.limits.maxStorageBufferBindingSize,
    features: [...gpu.device.features].filter((f) => f === 'shader-f16' || f === 'timestamp-query'),
    buffers: gpu.limits.maxStorageBuffersPerShaderStage,
  };
  gpu.device.destroy();
  return result;
}

test("a run within WebGPU's default limits, without optional features, ends with the bits of one with all", async () => {
  const full = await run({});
  const small = await run({ defaultLimits: true, withoutFeatures: ['shader-f16', 'timestamp-query'] });
  expect(small.binding).toBe(2 ** 27);
  expect(small.buffers).toBe(8);
  expect(small.features).toEqual([]);
  expect(small.plan).toEqual(full.plan);
  expect(small.hash).toBe(full.hash);
});

slowTest(
  'an adapter with nothing but the default limits, without subgroups, trains by kernels that need none',
  async () => {
    const withoutFeatures = ['subgroups', 'shader-f16', 'timestamp-query'];
    const gpu = await Gpu.open(openDawn(), { defaultLimits: true, withoutFeatures });
    expect(withoutFeatures.filter((feature) => gpu.device.features.has(feature))).toEqual([]);
    expect(gpu.limits.maxStorageBuffersPerShaderStage).toBe(8);
    expect(gpu.limits.maxStorageBufferBindingSize).toBe(2 ** 27);
    expect(gpu.adapter.subgroupSize).toBeUndefined();
    expect(JSON.stringify(defaultPlan(gpu.adapter))).not.toContain('subgroup');
    const engine = await goldenEngine(gpu, golden, { microBatch: 2, dropout: 0.1, clip: 1 });
    const losses: number[] = [];
    for (let step = 1; step <= 5; step++)
      losses.push((await engine.step(goldenMicroBatches(golden, 0, 2), step, 5, 1e-2)).loss);
    expect(losses[4]).toBeLessThan(losses[0] - 0.3);
    gpu.device.destroy();
  },
);
