import { beforeAll, describe, expect, test } from 'vitest';
import { describeMismatch } from '../../src/check/checking.js';
import type { CheckedPipelines } from '../../src/check/lists.js';
import { checkGraph, checkUpdates } from '../../src/check/portable-check.js';
import type { Gpu } from '../../src/gpu/device.js';
import { KernelCache, type ShaderTexts } from '../../src/gpu/kernel.js';
import type { ModelConfig } from '../../src/model/config.js';
import { Gpt } from '../../src/model/gpt.js';
import { ParameterArena, ParameterLayout } from '../../src/model/layout.js';
import { defaultPlan, type Plan } from '../../src/model/plan.js';
import type { BatchShape } from '../../src/model/shape.js';
import { ExactSums } from '../../src/model/sums.js';
import { loadShaders } from '../../src/node/shaders.js';
import { GpuHarness } from '../gpu/harness.js';

let gpu: Gpu;
beforeAll(async () => {
  gpu = (await GpuHarness.open()).gpu;
});

const MODEL: ModelConfig = {
  vocabSize: 67,
  context: 24,
  width: 32,
  layers: 2,
  heads: 2,
  tie: true,
  qkvBias: true,
};
const SHAPE: BatchShape = { batch: 2, context: 24, dropout: 0.1, precision: 'portable' };

async function graph(
  model: ModelConfig,
  shape: BatchShape,
  plan: Partial<Plan> = {},
  texts: ShaderTexts = loadShaders(),
): Promise<Gpt> {
  const whole = { ...defaultPlan(gpu.adapter), ...plan };
  const layout = new ParameterLayout(model, whole);
  const weights = await ParameterArena.allocate(gpu, layout, 'weights');
  const sums = await ExactSums.allocate(gpu, layout);
  return Gpt.build(new KernelCache(gpu, texts), shape, whole, weights, sums);
}

describe('the check of portable kernels passes on this adapter', () => {
  test('with dropout', async () => {
    const gpt = await graph(MODEL, SHAPE);
    const checked: CheckedPipelines = new Set();
    const t = performance.now();
    const mismatch = await checkGraph(gpt, 1, checked);
    console.log(checked.size, performance.now() - t);
    const t1 = performance.now();
    await checkGraph(gpt, 2);
    console.log('warm', performance.now() - t1);
    expect(mismatch && describeMismatch(mismatch)).toBeUndefined();
  });
});
test('updates', async () => {
  const t = performance.now();
  const kernels = new KernelCache(gpu, loadShaders());
  const mismatch = await checkUpdates(kernels, 1);
  console.log('updates', performance.now() - t);
  const t1 = performance.now();
  await checkUpdates(kernels, 1);
  console.log('updates warm', performance.now() - t1);
  expect(mismatch && describeMismatch(mismatch)).toBeUndefined();
});
