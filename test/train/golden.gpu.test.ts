import { beforeAll, describe, expect, test } from 'vitest';
import { Gpu } from '../../src/gpu/device.js';
import { always } from '../../src/model/matmul-plan.js';
import type { Plan } from '../../src/model/plan.js';
import { logitsStride } from '../../src/model/shape.js';
import { openDawn } from '../../src/node/dawn.js';
import type { Engine } from '../../src/train/engine.js';
import { readGradient } from '../model/harness.js';
import { agree } from '../reference/agree.js';
import { GOLDEN_LOSS_ERROR, type Golden, loadGolden } from '../reference/golden.js';
import { sampled } from '../thorough.js';
import { goldenEngine, goldenMicroBatches } from './fixture.js';

let gpu: Gpu;
beforeAll(async () => {
  gpu = await Gpu.open(openDawn());
});

/** Kernels without subgroups, with a GPU's threads a row. */
const ANYWHERE: Partial<Plan> = { matmul: always('tile64x64'), attention: 'tile', rowLanes: 64, rowsPerGroup: 1 };

const CASES: [name: 'tied' | 'untied', microBatch: number, kernels: string, plan: Partial<Plan>][] = [
  ['tied', 2, "this adapter's kernels", {}],
  ['tied', 1, "this adapter's kernels", {}],
  ['untied', 3, "this adapter's kernels", {}],
  ['untied', 1, 'the kernels for any adapter', ANYWHERE],
];

describe.each(sampled(CASES, 3))('PyTorch and the %s model in micro-batches of %d, %s', (name, microBatch, _, plan) => {
  let golden: Golden;
  let engine: Engine;
  beforeAll(async () => {
    golden = loadGolden(name);
    engine = await goldenEngine(gpu, golden, { microBatch, plan });
  });
  const batches = (step: number) => goldenMicroBatches(golden, step, microBatch);

  test('the model and PyTorch agree on the logits and the loss before training', async () => {
    const { vocabSize: V, context: T } = golden.config;
    const stride = logitsStride(golden.config);
    let largest = 0;
    for (const batch of batches(0)) {
      engine.gpt.submitLoss(batch);
      const padded = new Float32Array(await gpu.read(engine.gpt.view('logits')));
      for (let i = 0; i < batch.tokens.length * V; i++) {
        const want = golden.logits[batch.firstSlot * T * V + i];
        const error = Math.abs(padded[Math.floor(i / V) * stride + (i % V)] - want);
        largest = Math.max(largest, Number.isNaN(error) ? Number.POSITIVE_INFINITY : error);
      }
    }
    expect(largest).toBeLessThan(1e-4);
    await engine.sums.takeReport(gpu);
    const loss = await engine.evaluate(batches(0), golden.batch * T);
    expect(Math.abs(loss - golden.losses[0])).toBeLessThan(GOLDEN_LOSS_ERROR);
  });

  test('the model and PyTorch agree on every gradient before training', async () => {
    const tokenWeight = 1 / (golden.batch * golden.config.context);
    for (const batch of batches(0)) engine.gpt.submitGradient(batch, { seed: 0, step: 1, tokenWeight });
    expect((await engine.sums.takeReport(gpu)).nonFinite).toEqual([]);
    expect([...golden.gradients.keys()].sort()).toEqual(engine.layout.parameters.map((p) => p.name).sort());
    for (const [tensor, want] of golden.gradients)
      agree(await readGradient(gpu, engine.sums, tensor), want, 1e-3, tensor);
    engine.sums.clear(gpu);
  });

  test('the model and PyTorch agree on the losses of 20 steps of training and on the weights after them', async () => {
    for (const [step, want] of golden.losses.entries()) {
      const { loss } = await engine.step(batches(step), step + 1, 0, golden.learningRate);
      expect(Math.abs(loss - want), `step ${step + 1}: ${loss} for ${want}`).toBeLessThan(GOLDEN_LOSS_ERROR);
    }
    expect(golden.losses.length).toBe(20);
    for (const [tensor, want] of golden.finalWeights)
      agree(await engine.optimizer.weights.read(gpu, tensor), want, 1e-3, tensor);
  });
});
