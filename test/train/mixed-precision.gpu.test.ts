import { beforeAll, describe, expect, test } from 'vitest';
import { WorkerEngine } from '../../cluster/worker/worker-engine.js';
import { Gpu } from '../../src/gpu/device.js';
import type { BatchShape } from '../../src/model/shape.js';
import { openDawn } from '../../src/node/dawn.js';
import { loadShaders } from '../../src/node/shaders.js';
import { checkPrecision } from '../../src/run/plan.js';
import type { Engine } from '../../src/train/engine.js';
import { FIRST_LOSS_SCALE, GROWTH_STEPS, nextLossScale } from '../../src/train/loss-scale.js';
import { GpuHarness } from '../gpu/harness.js';
import { readGradient } from '../model/harness.js';
import { agree } from '../reference/agree.js';
import { type Golden, loadGolden } from '../reference/golden.js';
import { slowTest } from '../slow.js';
import { engineOptions, goldenEngine, goldenMicroBatches, restart, stateHash } from './fixture.js';

const OPTIONS = { microBatch: 1, dropout: 0.1, precision: 'f16' } as const;

let harness: GpuHarness;
let golden: Golden;
let has: boolean;
beforeAll(async () => {
  harness = await GpuHarness.open();
  golden = loadGolden('tied');
  has = harness.gpu.has('shader-f16');
  if (!has) console.warn('mixed precision is not tested: this adapter has no shader-f16');
});

describe('the loss scale', () => {
  test('the loss scale doubles after enough good steps and falls by the mean of the halvings', () => {
    let scale = FIRST_LOSS_SCALE;
    for (let step = 0; step < GROWTH_STEPS; step++) scale = nextLossScale(scale, 0, 4);
    expect(scale).toEqual({ exponent: FIRST_LOSS_SCALE.exponent + 1, goodSteps: 0 });
    expect(nextLossScale({ exponent: 20, goodSteps: 7 }, 1, 4)).toEqual({ exponent: 19, goodSteps: 0 });
    expect(nextLossScale({ exponent: 40, goodSteps: 7 }, 60, 4)).toEqual({ exponent: 25, goodSteps: 0 });
  });
});

describe('training in mixed precision', () => {
  const build = (more: object = {}) => goldenEngine(harness.gpu, golden, { ...OPTIONS, ...more });
  const steps = async (engine: Engine, from: number, to: number, rate = 1e-3) => {
    const losses: number[] = [];
    for (let step = from; step <= to; step++)
      losses.push((await engine.step(goldenMicroBatches(golden, step, 1), step, 3, rate)).loss);
    return losses;
  };

  slowTest('training in mixed precision has gradients near those of float32, and learns as it does', async () => {
    if (!has) return;
    const [mixed, full] = [await build({ dropout: 0 }), await build({ dropout: 0, precision: 'f32' })];
    const [batch] = goldenMicroBatches(golden, 0, 1);
    const context = { seed: 1, step: 1, tokenWeight: 1 / batch.tokens.length };
    mixed.gpt.submitWeights();
    mixed.gpt.submitGradient(batch, { ...context, scaleExponent: 10 });
    full.gpt.submitGradient(batch, context);
    for (const { name } of full.layout.parameters) {
      const want = await readGradient(harness.gpu, full.sums, name);
      const got = await readGradient(harness.gpu, mixed.sums, name);
      agree(got, want, 0.02, name);
      expect(got).not.toEqual(want);
    }
    for (const engine of [mixed, full]) engine.sums.clear(harness.gpu);
    const [a, b] = [await steps(mixed, 1, 100), await steps(full, 1, 100)];
    expect(b[99]).toBeLessThan(0.8 * b[0]);
    for (const [i, loss] of a.entries()) expect(Math.abs(loss / b[i] - 1)).toBeLessThan(0.03);
  });

  test('mixed precision gives the same bits again, resumed, with layers recomputed, and after an overflow as by a worker', async () => {
    if (!has) return;
    const engine = await build();
    await steps(engine, 1, 4);
    const hash = await stateHash(engine);
    restart(engine, golden);
    engine.lossScale = FIRST_LOSS_SCALE;
    await steps(engine, 1, 4);
    expect(await stateHash(engine)).toBe(hash);
    expect(engine.lossScale).toEqual({ ...FIRST_LOSS_SCALE, goodSteps: 4 });
    const again = await build({ recompute: true });
    await steps(again, 1, 4);
    expect(await stateHash(again)).toBe(hash);

    // A scale that float16 cannot hold: every micro-batch finds its own, and the next step starts with a smaller one.
    restart(engine, golden);
    engine.lossScale = { exponent: 40, goodSteps: 5 };
    const batches = goldenMicroBatches(golden, 1, 1);
    const context = { seed: 3, step: 1, tokenWeight: 1 / (golden.batch * golden.config.context) };
    const { model, shape, plan } = engineOptions(harness.gpu, golden, OPTIONS);
    const own = await Gpu.open(openDawn());
    const worker = await WorkerEngine.create(own, loadShaders(), { model, shape, plan });
    for (const { name } of worker.layout.parameters)
      worker.weights.write(own, name, golden.weights.get(name) ?? new Float32Array());
    worker.gpt.submitWeights();
    const done: { batch: (typeof batches)[0]; exponent: number }[] = [];
    for (const batch of batches) await worker.gradientByScale(batch, context, 40, done);
    const halvings = done.reduce((n, { exponent }) => n + 40 - exponent, 0);
    expect(halvings).toBeGreaterThan(0);

    await steps(engine, 1, 1);
    expect(engine.lossScale).toEqual(nextLossScale({ exponent: 40, goodSteps: 5 }, halvings, batches.length));
    // One update from zero moments: the first moment is the gradient times (1 - beta1).
    for (const { name } of worker.layout.parameters) {
      const gradient = await readGradient(own, worker.sums, name);
      agree(
        await engine.optimizer.m.read(harness.gpu, name),
        gradient.map((g) => g * (1 - golden.beta1)),
        1e-6,
        name,
      );
    }
    own.device.destroy();
    expect((await steps(engine, 2, 3)).every(Number.isFinite)).toBe(true);
  });

  test('mixed precision is refused in one line where the adapter has no shader-f16', async () => {
    const without = await Gpu.open(openDawn(), { withoutFeatures: ['shader-f16'] });
    const shape: BatchShape = { batch: 1, context: 8, dropout: 0, precision: 'f16' };
    expect(() => checkPrecision(without, shape, 16)).toThrow(/--precision f16 needs the feature shader-f16/);
    expect(() => checkPrecision(without, { ...shape, precision: 'f32' }, 16)).not.toThrow();
    without.device.destroy();
  });
});
