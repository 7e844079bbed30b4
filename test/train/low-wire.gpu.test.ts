import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { SMALL_RUN } from '../../src/check/small-run.js';
import { digestState } from '../../src/checkpoint/digest.js';
import type { Gpu } from '../../src/gpu/device.js';
import type { MicroBatch } from '../../src/model/gpt.js';
import { freshTensor } from '../../src/model/initialize.js';
import { parameters } from '../../src/model/parameters.js';
import { defaultPlan, type Plan } from '../../src/model/plan.js';
import { headPasses } from '../../src/model/shape.js';
import { loadShaders } from '../../src/node/shaders.js';
import { Engine } from '../../src/train/engine.js';
import { partOf } from '../../src/train/snapshot.js';
import { threefry } from '../../src/util/random.js';
import { GpuHarness } from '../gpu/harness.js';

let gpu: Gpu;
beforeAll(async () => {
  gpu = (await GpuHarness.open()).gpu;
});

afterAll(() => gpu.device.destroy());

const MODEL = { ...SMALL_RUN.model, context: 32, vocabSize: 130 };
const STEPS = 2;
const MICRO_BATCHES = 4;

function batches(step: number): MicroBatch[] {
  const rows = SMALL_RUN.sequences * MODEL.context;
  return Array.from({ length: MICRO_BATCHES }, (_, n) => {
    const ids = (c1: number) =>
      Uint32Array.from({ length: rows }, (_, i) => threefry([step, n], i, c1)[0] % MODEL.vocabSize);
    return { tokens: ids(0), targets: ids(1), firstSlot: n * SMALL_RUN.sequences };
  });
}

function shapeOf(stack: number) {
  const { sequences: batch, dropout } = SMALL_RUN;
  return { batch, context: MODEL.context, dropout, precision: 'portable', wire: 'low', stack } as const;
}

/** The digest of a run of the low wire, and the norms of its gradients. */
async function ran(stack: number, plan: Partial<Plan> = {}) {
  const { adamw, clip, seed, learningRate, initialization } = SMALL_RUN;
  const engine = await Engine.create(gpu, loadShaders(), {
    ...{ model: MODEL, adamw, clip, microBatches: MICRO_BATCHES },
    shape: shapeOf(stack),
    plan: { ...defaultPlan(gpu.adapter), ...plan },
  });
  for (const [i, p] of parameters(MODEL).entries())
    engine.optimizer.weights.write(gpu, p.name, freshTensor(MODEL, p, i, initialization, seed, 'portable'));
  engine.state.start(0, true);
  const outcomes = [];
  for (let step = 1; step <= STEPS; step++) outcomes.push(await engine.step(batches(step), step, seed, learningRate));
  const read = (part: Parameters<typeof partOf>[1], name: string) => partOf(engine.state, part).read(gpu, name);
  const digest = await digestState(MODEL, STEPS, read, 'low');
  engine.release();
  return { digest, outcomes };
}

describe('a run of the low wire ends with the same digest', () => {
  test('however many micro-batches are stacked, also where the head takes them one by one', async () => {
    const single = await ran(1);
    expect(await ran(2)).toEqual(single);
    const plan = { windowValues: 2 ** 14 };
    expect(headPasses(MODEL, shapeOf(4), { ...defaultPlan(gpu.adapter), ...plan }).length).toBe(4);
    expect(await ran(4, plan)).toEqual(single);
  });
});
