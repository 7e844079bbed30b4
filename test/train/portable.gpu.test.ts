import { beforeAll, describe, expect, test } from 'vitest';
import {
  PORTABLE_DIGEST,
  PORTABLE_LOW_DIGEST,
  SMALL_RUN,
  SMALL_RUNS,
  smallRunBatches,
  smallRunDigest,
  smallRunEngine,
} from '../../src/check/small-run.js';
import { digestState } from '../../src/checkpoint/digest.js';
import type { Gpu } from '../../src/gpu/device.js';
import type { ModelConfig } from '../../src/model/config.js';
import { freshTensor } from '../../src/model/initialize.js';
import { parameters } from '../../src/model/parameters.js';
import { defaultPlan } from '../../src/model/plan.js';
import { WIRES } from '../../src/model/wire.js';
import { loadShaders } from '../../src/node/shaders.js';
import { Engine } from '../../src/train/engine.js';
import { partOf } from '../../src/train/snapshot.js';
import { GpuHarness } from '../gpu/harness.js';
import { loadGolden, PORTABLE_LOSS_ERROR } from '../reference/golden.js';
import { type ReferenceOptions, ReferenceTraining } from '../reference/portable/train.js';

import { goldenEngine, goldenMicroBatches } from './fixture.js';

let gpu: Gpu;
beforeAll(async () => {
  gpu = (await GpuHarness.open()).gpu;
});

const { model: MODEL, seed: SEED, learningRate: LEARNING_RATE, sequences: SEQUENCES } = SMALL_RUN;
const OPTIONS: ReferenceOptions = {
  adamw: SMALL_RUN.adamw,
  clip: SMALL_RUN.clip,
  dropout: SMALL_RUN.dropout,
  seed: SEED,
};

/** Untied with dropout and clipping; tied without. Digests of the reference. */
const RUNS: readonly { name: string; model: ModelConfig; options: ReferenceOptions; digest: string }[] = [
  {
    name: 'untied, with dropout and clipping',
    model: MODEL,
    options: OPTIONS,
    digest: PORTABLE_DIGEST,
  },
  {
    name: 'tied, without either',
    model: { ...MODEL, tie: true },
    options: { ...OPTIONS, dropout: 0, clip: 0 },
    digest: 'ef9839063237d3b6f2d18aa6efa301003050b8be30cb44354515fc36d44bb4be',
  },
  {
    name: 'untied, in the low wire',
    model: MODEL,
    options: { ...OPTIONS, wire: 'low' },
    digest: PORTABLE_LOW_DIGEST,
  },
  {
    name: 'tied, in the low wire, without either',
    model: { ...MODEL, tie: true },
    options: { ...OPTIONS, dropout: 0, clip: 0, wire: 'low' },
    digest: '74218712a2de0a999669a6ac3f9e13001891a672511bdeeef21c3fd5dddae0bf',
  },
] as const;

test.each(['tied', 'untied'] as const)('the losses of 20 steps of the %s model agree with PyTorch', async (name) => {
  const golden = loadGolden(name);
  const engine = await goldenEngine(gpu, golden, { microBatch: 1, precision: 'portable' });
  for (const [step, want] of golden.losses.entries()) {
    const { loss } = await engine.step(goldenMicroBatches(golden, step, 1), step + 1, 0, golden.learningRate);
    expect(Math.abs(loss - want), `step ${step + 1}: ${loss} for ${want}`).toBeLessThan(PORTABLE_LOSS_ERROR);
  }
  expect(golden.losses.length).toBe(20);
});

function freshWeights(model: ModelConfig, seed: number): Map<string, Float32Array> {
  return new Map(parameters(model).map((p, i) => [p.name, freshTensor(model, p, i, 'pytorch', seed, 'portable')]));
}

describe.each(RUNS)('a small run in portable arithmetic: $name', ({ model, options, digest }) => {
  test('plain TypeScript and this adapter end with the digest that every adapter gives', async () => {
    const weights = freshWeights(model, options.seed);
    const reference = new ReferenceTraining(model, weights, options);
    const { adamw, clip, dropout, seed, wire = 'exact' } = options;
    const { steps } = SMALL_RUNS[wire];
    const engine = await Engine.create(gpu, loadShaders(), {
      model,
      shape: { batch: SEQUENCES, context: model.context, dropout, precision: 'portable', wire },
      plan: defaultPlan(gpu.adapter),
      adamw,
      clip,
      microBatches: smallRunBatches(1).length,
    });
    for (const [name, values] of weights) engine.optimizer.weights.write(gpu, name, values);
    engine.state.start(0, true);
    for (let step = 1; step <= steps; step++) {
      const batches = smallRunBatches(step);
      const want = reference.step(batches, step, LEARNING_RATE);
      const { loss } = await engine.step(batches, step, seed, LEARNING_RATE);
      expect(loss, `loss of step ${step}`).toBe(want);
    }
    const got = await digestState(model, steps, (part, name) => partOf(engine.state, part).read(gpu, name), wire);
    expect(got).toBe(reference.digest(steps));
    expect(got).toBe(digest);
    engine.release();
  });
});

test.each(WIRES)('the small run of the code in the %s wire has the digest that is pinned', async (wire) => {
  const before = gpu.memory.allocatedBytes;
  const engine = await smallRunEngine(gpu, loadShaders(), defaultPlan(gpu.adapter), wire);
  expect(await smallRunDigest(engine)).toBe(SMALL_RUNS[wire].digest);
  engine.release();
  expect(gpu.memory.allocatedBytes).toBe(before);
});
