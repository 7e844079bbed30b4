import { beforeAll, describe, expect, test } from 'vitest';
import { IGNORED_TARGET } from '../../src/model/gpt.js';
import { crossEntropy, sumLosses } from '../../src/model/ops/loss.js';
import { logitsStride } from '../../src/model/shape.js';
import { toFixedPoint } from '../../src/reference/fixed-point.js';
import { GpuHarness, noise } from '../gpu/harness.js';
import { OperationHarness, ROW_PLANS } from '../model/harness.js';
import { agree } from '../reference/agree.js';
import { crossEntropyBackward, crossEntropy as referenceCrossEntropy } from '../reference/operations.js';

let harness: GpuHarness;
beforeAll(async () => {
  harness = await GpuHarness.open();
});

/** The value beyond the vocabulary, which must neither count nor change. */
const PADDING = 3e38;

interface Problem {
  readonly logits: Float32Array;
  readonly targets: Uint32Array;
}

const targetsFor = (rows: number, V: number) => Uint32Array.from({ length: rows }, (_, r) => (r * 7 + 3) % V);

/** Kinds of rows; each row of a problem takes the next. */
function extremes(rows: number, V: number): Problem {
  const logits = noise(rows * V, 11, 5);
  const targets = targetsFor(rows, V);
  for (let r = 0; r < rows; r++) {
    const row = logits.subarray(r * V, (r + 1) * V);
    if (r % 6 === 1) row.fill(-1e30);
    if (r % 6 === 2) row.fill(1e30);
    if (r % 6 === 3) row[targets[r]] = 3000; // certain
    if (r % 6 === 4) row[(targets[r] + 1) % V] = 3000; // certain and wrong
    if (r % 6 === 5) row.set(row.map((v) => v * 20 - 1000));
  }
  return { logits, targets };
}

async function run(model: OperationHarness, { logits, targets }: Problem, scaleValue?: number) {
  const { config } = model.weights.layout;
  const [V, stride, rows] = [config.vocabSize, logitsStride(config), targets.length];
  const padded = new Float32Array(rows * stride).fill(PADDING);
  for (let r = 0; r < rows; r++) padded.set(logits.subarray(r * V, (r + 1) * V), r * stride);
  const view = await harness.put(padded);
  const losses = await harness.zeros(rows);
  const scale = scaleValue === undefined ? undefined : await harness.uniform([{ f32: scaleValue }]);
  const targetView = await harness.put(targets);
  await model.run((g) => crossEntropy(g, { logits: view, targets: targetView, losses, rows, stride, scale }));
  const after = await harness.floats(view);
  const inside = after.filter((_, i) => i % stride < V);
  expect(after.filter((v, i) => i % stride >= V && v !== Math.fround(PADDING)).length, 'padding').toBe(0);
  return { losses: await harness.floats(losses), logits: inside };
}

describe.each(ROW_PLANS)('cross-entropy with $rowLanes lanes a row', (rowPlan) => {
  // 520 is 8 x 64 lanes and 8 more
  test.each([
    [1, 1],
    [9, 7],
    [17, 61],
    [7, 520],
  ])('losses and gradients of %d rows of %d logits agree with float64', async (rows, V) => {
    const model = await OperationHarness.create(harness, { vocabSize: V }, rowPlan);
    const problem: Problem = { logits: noise(rows * V, 10, 5), targets: targetsFor(rows, V) };
    if (rows > 1) problem.targets[rows - 2] = IGNORED_TARGET;
    const want = referenceCrossEntropy(problem.logits, problem.targets, V);
    const plain = await run(model, problem);
    agree(plain.losses, want, 1e-6, 'losses');
    expect(plain.logits).toEqual(problem.logits);
    const back = await run(model, problem, 0.25);
    expect(back.losses).toEqual(plain.losses);
    agree(back.logits, crossEntropyBackward(problem.logits, problem.targets, V, 0.25), 1e-6, 'gradients');
    if (rows === 1) return;
    const ignored = back.logits.subarray((rows - 2) * V, (rows - 1) * V);
    expect(ignored.findIndex((v) => v !== 0)).toBe(-1);
    expect(plain.losses[rows - 2]).toBe(0);
  });

  test('cross-entropy stays finite for extreme logits', async () => {
    const [rows, V] = [17, 61];
    const model = await OperationHarness.create(harness, { vocabSize: V }, rowPlan);
    const problem = extremes(rows, V);
    const want = referenceCrossEntropy(problem.logits, problem.targets, V);
    const got = await run(model, problem, 1);
    const dWant = crossEntropyBackward(problem.logits, problem.targets, V, 1);
    for (let r = 0; r < rows; r++) {
      const dRow = (d: Float32Array | Float64Array) => d.subarray(r * V, (r + 1) * V);
      // At 1e30, log 61 is below float32's last digit: the loss of a flat row is 0 there.
      const flat = r % 6 === 1 || r % 6 === 2;
      expect(Math.abs(got.losses[r] - (flat ? 0 : want[r])), `loss of row ${r}`).toBeLessThan(2e-3);
      agree(dRow(got.logits), dRow(dWant), 1e-4, `gradient of row ${r}`);
    }
  });

  test('a NaN or an infinity among the logits makes the loss not finite', async () => {
    const [rows, V] = [17, 61];
    const model = await OperationHarness.create(harness, { vocabSize: V }, rowPlan);
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY])
      for (const at of [0, 30, 60]) {
        const logits = noise(rows * V, 12);
        logits[4 * V + at] = bad;
        const { losses } = await run(model, { logits, targets: targetsFor(rows, V) });
        expect(Number.isFinite(losses[4]), `${bad} at ${at}: loss ${losses[4]}`).toBe(false);
        expect(losses.filter((loss) => !Number.isFinite(loss)).length).toBe(1);
      }
  });
});

describe('the sum of the losses', () => {
  test.each([1, 64, 131])(
    'the sum of the losses of %d rows is exact in fixed point, launch after launch',
    async (rows) => {
      const model = await OperationHarness.create(harness, {});
      const values = noise(rows, 13, 10).map((v) => v + 10);
      const losses = await harness.put(values);
      const views = { losses, total: model.sums.loss, status: model.sums.lossStatus };
      await model.run((g) => sumLosses(g, views), 300);
      const want = values.reduce((sum, v) => sum + toFixedPoint(v), 0n) * 300n;
      const { lossSum, nonFinite } = await model.report();
      expect(nonFinite).toEqual([]);
      // The two words come together in float64, which holds 53 bits.
      expect(lossSum).toBe(Number(want) / 2 ** 40);
    },
  );

  test('the sum of the losses reports losses that are not finite or do not fit', async () => {
    const model = await OperationHarness.create(harness, {});
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, 4096]) {
      const losses = await harness.put([1, 2, bad]);
      await model.run((g) => sumLosses(g, { losses, total: model.sums.loss, status: model.sums.lossStatus }));
      expect((await model.report()).nonFinite).toEqual(['loss']);
    }
  });
});
