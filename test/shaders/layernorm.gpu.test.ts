import { beforeAll, describe, expect, test } from 'vitest';
import { biasGradient } from '../../src/model/ops/columns.js';
import { norm, normGradient } from '../../src/model/ops/norm.js';
import { GpuHarness, noise } from '../gpu/harness.js';
import { OperationHarness, ROW_PLANS } from '../model/harness.js';
import { agree } from '../reference/agree.js';
import { add, dropoutFactors, layerNorm, layerNormBackward, multiply } from '../reference/operations.js';
import { sampled } from '../thorough.js';

let harness: GpuHarness;
beforeAll(async () => {
  harness = await GpuHarness.open();
});

const KEY = [0x12345678, 0x9abcdef0] as const;

const SHAPES = [
  { rows: 1, width: 1, columnRows: 64 },
  { rows: 9, width: 64, columnRows: 4 },
  // rows that begin inside a vec4
  { rows: 12, width: 6, columnRows: 5 },
  // one past a workgroup of rows and of columns, chunks that do not fill up
  { rows: 9, width: 65, columnRows: 4 },
  { rows: 67, width: 130, columnRows: 64 },
] as const;

/** Rows whose mean is large against their spread: E[x^2] - E[x]^2 would be wrong in its second digit. */
function rowsOff(values: Float32Array, width: number): Float32Array {
  return values.map((v, i) => v + 100 * (Math.floor(i / width) % 3));
}

describe.each(ROW_PLANS)('LayerNorm with $rowLanes lanes a row', (rowPlan) => {
  test.each(sampled(SHAPES, 2))(
    'LayerNorm agrees with float64, forward and backward: $rows rows of $width',
    async ({ rows, width: C, columnRows }) => {
      const model = await OperationHarness.create(harness, { width: C, heads: 1 }, { ...rowPlan, columnRows });
      const [gain, bias] = [model.fill('ln_f.weight', 1), model.fill('ln_f.bias', 2)];
      const values = rowsOff(noise(rows * C, 3), C);
      const dyValues = noise(rows * C, 4);
      const [x, dy] = [await harness.put(values), await harness.put(dyValues)];
      const [y, stats] = [await harness.zeros(rows * C), await harness.zeros(2 * rows)];
      await model.run((g) => norm(g, 'ln_f', { x, y, stats, rows }));
      const want = layerNorm(values, gain, bias, C);
      agree(await harness.floats(y), want.y, 2e-4, 'y');
      const statistics = await harness.floats(stats);
      agree(
        statistics.filter((_, i) => i % 2 === 0),
        want.mean,
        1e-6,
        'mean',
      );
      agree(
        statistics.filter((_, i) => i % 2 === 1),
        want.inverse,
        1e-5,
        'rstd',
      );

      const back = layerNormBackward(values, gain, dyValues, C);
      const residualGradient = noise(rows * C, 5);
      for (const accumulate of [false, true]) {
        const dx = await harness.put(residualGradient);
        await model.run((g) => normGradient(g, 'ln_f', { x, stats, dy, dx, accumulate, rows }));
        const got = await harness.floats(dx);
        // The gradient of a row of one value is rounding only, so it is measured beside other values.
        const want = accumulate || C === 1 ? add(back.dx, residualGradient) : back.dx;
        agree(!accumulate && C === 1 ? add(got, residualGradient) : got, want, 2e-4, `dx, accumulate ${accumulate}`);
      }
      // Sequences of three rows, where the rows divide by three.
      const rowsPerSequence = rows % 3 === 0 ? 3 : rows;
      const [sequences, p, firstSlot] = [rows / rowsPerSequence, 0.25, 0xfffffffa];
      const key = await harness.uniform([...KEY, firstSlot, p * 2 ** 32, { f32: 1 / (1 - p) }]);
      const [dx, gradient] = [await harness.put(residualGradient), await harness.zeros(rows * C)];
      const dropout = { key, rowsPerSequence, gradient };
      await model.run((g) => normGradient(g, 'ln_f', { x, stats, dy, dx, accumulate: true, rows, dropout }));
      const factors = dropoutFactors(KEY, p, firstSlot, sequences, rowsPerSequence * C);
      const through = add(back.dx, residualGradient);
      agree(await harness.floats(dx), through, 2e-4, 'dx beside dropout');
      agree(await harness.floats(gradient), multiply(through, factors), 2e-4, 'dx through dropout');

      // The sums hold the gradients of all three launches.
      const thrice = (g: Float64Array) => g.map((v) => 3 * v);
      agree(await model.gradient('ln_f.weight'), thrice(back.dGain), 2e-4, 'gain');
      agree(await model.gradient('ln_f.bias'), thrice(back.dBias), 1e-6, 'bias');
      expect((await model.report()).nonFinite).toEqual([]);
    },
  );
});

describe('sums of columns', () => {
  test.each(ROW_PLANS)(
    'sums of columns are the same bits, however many threads share them: $rowLanes lanes',
    async (rowPlan) => {
      const [rows, width] = [61, 20];
      const dy = await harness.put(noise(rows * 3 * width, 9));
      const sums: Float64Array[] = [];
      for (const plan of [ROW_PLANS[0], rowPlan]) {
        const model = await OperationHarness.create(harness, { width, heads: 1 }, { ...plan, columnRows: 3 });
        await model.run((g) => biasGradient(g, 'h.0.attn.c_attn.bias', { dy, rows }));
        sums.push(await model.gradient('h.0.attn.c_attn.bias'));
      }
      expect(sums[1]).toEqual(sums[0]);
    },
  );

  test.each([
    [1, 1, 64],
    [65, 15, 64],
    [67, 86, 8],
    [130, 12, 8],
  ])(
    'sums of columns agree with float64: %d rows of a bias of 3 x %d, chunks of %d rows',
    async (rows, width, columnRows) => {
      const model = await OperationHarness.create(harness, { width, heads: 1 }, { columnRows });
      const N = 3 * width;
      const values = noise(rows * N, 6);
      const dy = await harness.put(values);
      await model.run((g) => biasGradient(g, 'h.0.attn.c_attn.bias', { dy, rows }));
      const want = new Float64Array(N);
      for (let i = 0; i < values.length; i++) want[i % N] += values[i];
      agree(await model.gradient('h.0.attn.c_attn.bias'), want, 1e-6);
      expect((await model.report()).nonFinite).toEqual([]);
    },
  );

  test('a NaN in one row names the bias, and an infinity the LayerNorm', async () => {
    const model = await OperationHarness.create(harness, { width: 65, heads: 1 }, { ...ROW_PLANS[0], columnRows: 4 });
    const rows = 9;
    const bad = noise(rows * 65, 7);
    bad[5 * 65 + 64] = Number.NaN;
    const dy = await harness.put(bad);
    await model.run((g) => biasGradient(g, 'h.0.attn.c_proj.bias', { dy, rows }));
    expect((await model.report()).nonFinite).toEqual(['h.0.attn.c_proj.bias']);
    bad[5 * 65 + 64] = Number.POSITIVE_INFINITY;
    harness.gpu.write(dy, bad);
    const x = await harness.put(noise(rows * 65, 8));
    const [stats, dx] = [await harness.zeros(2 * rows), await harness.zeros(rows * 65)];
    await model.run((g) => normGradient(g, 'h.0.ln_2', { x, stats, dy, dx, accumulate: true, rows }));
    expect((await model.report()).nonFinite).toEqual(['h.0.ln_2.weight']);
  });
});
