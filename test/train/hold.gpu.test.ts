import { beforeAll, describe, expect, test } from 'vitest';
import { Gpu } from '../../src/gpu/device.js';
import { openDawn } from '../../src/node/dawn.js';
import { type Engine, StepAbandoned } from '../../src/train/engine.js';
import { FIRST_LOSS_SCALE } from '../../src/train/loss-scale.js';
import { type Golden, loadGolden } from '../reference/golden.js';
import { slowTest } from '../slow.js';
import { sampled } from '../thorough.js';
import { goldenEngine, goldenMicroBatches, restart, stateHash } from './fixture.js';

let gpu: Gpu;
let golden: Golden;
beforeAll(async () => {
  gpu = await Gpu.open(openDawn());
  golden = loadGolden('tied');
});

const stepOf = (engine: Engine, step: number) => engine.step(goldenMicroBatches(golden, step, 1), step, 3, 1e-3);
const settled = () => new Promise((go) => setTimeout(go));

const CASES = [
  ['f32', 0],
  ['f32', 0.5],
  ['f16', 0],
  ['f16', 0.5],
] as const;

describe.each(sampled(CASES, 4))('in %s, with clipping at %d', (precision, clip) => {
  test('a state that is held in the middle of a step is that before it, and the step has the same bits', async ({
    skip,
  }) => {
    if (precision === 'f16' && !gpu.has('shader-f16')) skip('this adapter has no shader-f16');
    const engine = await goldenEngine(gpu, golden, { microBatch: 1, dropout: 0.1, precision, clip });
    const losses = [await stepOf(engine, 1)];
    const before = await stateHash(engine);
    const scale = engine.lossScale;
    losses.push(await stepOf(engine, 2));
    const after = await stateHash(engine);
    expect(after).not.toBe(before);
    const scaleAfter = engine.lossScale;

    restart(engine, golden);
    if (engine.lossScale) engine.lossScale = FIRST_LOSS_SCALE;
    expect(await stepOf(engine, 1)).toEqual(losses[0]);
    let isOver = false;
    const step = stepOf(engine, 2).finally(() => {
      isOver = true;
    });
    await engine.holdState(async () => {
      // Meanwhile the gradients are computed, and only the update is missing.
      for (let i = 0; i < 3; i++) {
        await gpu.done();
        await settled();
        expect(await stateHash(engine)).toBe(before);
      }
      expect(engine.version).toBe(1);
      expect(engine.lossScale).toEqual(scale);
      expect(isOver).toBe(false);
    });
    expect(await step).toEqual(losses[1]);
    expect(engine.version).toBe(2);
    expect(engine.lossScale).toEqual(scaleAfter);
    expect(await stateHash(engine)).toBe(after);
  });

  test('an abandoned step changes nothing, and nothing is computed afterwards', async ({ skip }) => {
    if (precision === 'f16' && !gpu.has('shader-f16')) skip('this adapter has no shader-f16');
    const engine = await goldenEngine(gpu, golden, { microBatch: 1, dropout: 0.1, precision, clip });
    await stepOf(engine, 1);
    const before = await stateHash(engine);
    const scale = engine.lossScale;
    const step = stepOf(engine, 2);
    // All is computed except the update, which waits for a reader.
    await engine.holdState(async () => {
      await gpu.done();
      await settled();
      engine.abandon();
    });
    await expect(step).rejects.toBeInstanceOf(StepAbandoned);
    expect(engine.version).toBe(1);
    expect(engine.lossScale).toEqual(scale);
    expect(await stateHash(engine)).toBe(before);
    await expect(stepOf(engine, 2)).rejects.toBeInstanceOf(StepAbandoned);
    await expect(engine.evaluate(goldenMicroBatches(golden, 2, 1), 1)).rejects.toBeInstanceOf(StepAbandoned);
    expect(await stateHash(engine)).toBe(before);
  });
});

test('a step is abandoned between its micro-batches, with the reason that is given', async () => {
  const engine = await goldenEngine(gpu, golden, { microBatch: 1 });
  const submit = engine.gpt.submitGradient.bind(engine.gpt);
  let submitted = 0;
  engine.gpt.submitGradient = (...args) => {
    submitted++;
    submit(...args);
  };
  const batches = goldenMicroBatches(golden, 1, 1);
  const many = Array.from({ length: 8 }, (_, i) => ({ ...batches[0], firstSlot: i }));
  const step = engine.step(many, 1, 3, 1e-3);
  const why = new Error('no worker stays up');
  engine.abandon(why);
  await expect(step).rejects.toBe(why);
  expect(submitted).toBeLessThan(many.length);
});

test('a step whose update has begun is finished', async () => {
  const engine = await goldenEngine(gpu, golden, { microBatch: 1 });
  const update = engine.optimizer.submitUpdate.bind(engine.optimizer);
  engine.optimizer.submitUpdate = (...args) => {
    update(...args);
    engine.abandon();
  };
  expect((await stepOf(engine, 1)).loss).toBeGreaterThan(0);
  expect(engine.version).toBe(1);
});

slowTest('whoever looks for the loss scales of a step in mixed precision can be stopped', async ({ skip }) => {
  if (!gpu.has('shader-f16')) skip('this adapter has no shader-f16');
  const engine = await goldenEngine(gpu, golden, { microBatch: 1, precision: 'f16' });
  // So large that everything overflows: the search tries one power of two after another.
  engine.lossScale = { exponent: 40, goodSteps: 0 };
  const take = engine.sums.takeReport.bind(engine.sums);
  let reports = 0;
  engine.sums.takeReport = (...args) => {
    if (++reports === 3) engine.abandon();
    return take(...args);
  };
  await expect(stepOf(engine, 1)).rejects.toBeInstanceOf(StepAbandoned);
  expect(reports).toBe(3);
});
