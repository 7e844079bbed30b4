import { beforeAll, describe, expect, it } from 'vitest';
import { Bench, noise } from '../gpu/harness.js';
import { OperationBench, ROW_PLANS } from '../model/bench.js';
import { agree } from '../reference/agree.js';
import { add, layerNorm, layerNormBackward } from '../reference/operations.js';

let bench: Bench;
beforeAll(async () => {
  bench = await Bench.open();
});

const SHAPES = [
  { rows: 1, width: 1, columnRows: 64 },
  // one past a workgroup of rows and of columns, chunks that do not fill up
  { rows: 9, width: 65, columnRows: 4 },
  { rows: 67, width: 130, columnRows: 64 },
] as const;

/** Rows whose mean is far from 0 against their spread: E[x^2] - E[x]^2 would be wrong in the second digit. */
function rowsOff(values: Float32Array, width: number): Float32Array {
  return values.map((v, i) => v + 100 * (Math.floor(i / width) % 3));
}

describe.each(ROW_PLANS)('LayerNorm with $rowLanes lanes a row', (rowPlan) => {
  it.each(SHAPES)('forward and backward, $rows rows of $width', async ({ rows, width: C, columnRows }) => {
    const model = await OperationBench.create(bench, { width: C, heads: 1 }, { ...rowPlan, columnRows });
    const [gain, bias] = [model.fill('ln_f.weight', 1), model.fill('ln_f.bias', 2)];
    const values = rowsOff(noise(rows * C, 3), C);
    const dyValues = noise(rows * C, 4);
    const [x, dy] = [await bench.put(values), await bench.put(dyValues)];
    const [y, stats] = [await bench.zeros(rows * C), await bench.zeros(2 * rows)];
    const partial = await bench.zeros(Math.ceil(rows / columnRows) * Math.max(4 * C, 256));
    await model.run((op) => op.layerNorm('ln_f', { x, y, stats, rows }));
    const want = layerNorm(values, gain, bias, C);
    agree(await bench.floats(y), want.y, 2e-4, 'y');
    const statistics = await bench.floats(stats);
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
    const passingValues = noise(rows * C, 5);
    for (const passing of [false, true]) {
      const dx = await bench.put(passingValues);
      await model.run((op) => op.layerNormGradient('ln_f', { x, stats, dy, dx, passing, partial, rows }));
      agree(await bench.floats(dx), passing ? add(back.dx, passingValues) : back.dx, 2e-4, `dx, passing ${passing}`);
    }
    // Both launches added theirs.
    const twice = (g: Float64Array) => g.map((v) => 2 * v);
    agree(await model.gradient('ln_f.weight'), twice(back.dGain), 2e-4, 'gain');
    agree(await model.gradient('ln_f.bias'), twice(back.dBias), 1e-6, 'bias');
    expect((await model.report()).wrong).toEqual([]);
  });
});

describe('sums of columns', () => {
  it.each([
    [1, 1, 64],
    [65, 15, 64],
    [67, 86, 8],
  ])('%d rows of a bias of 3 x %d, chunks of %d rows', async (rows, width, columnRows) => {
    const model = await OperationBench.create(bench, { width, heads: 1 }, { columnRows });
    const N = 3 * width;
    const values = noise(rows * N, 6);
    const dy = await bench.put(values);
    const partial = await bench.zeros(Math.ceil(rows / columnRows) * N);
    await model.run((op) => op.biasGradient('h.0.attn.c_attn.bias', { dy, partial, rows }));
    const want = new Float64Array(N);
    for (let i = 0; i < values.length; i++) want[i % N] += values[i];
    agree(await model.gradient('h.0.attn.c_attn.bias'), want, 1e-6);
    expect((await model.report()).wrong).toEqual([]);
  });

  it('a NaN in one row names the bias, and an infinity the LayerNorm', async () => {
    const model = await OperationBench.create(bench, { width: 65, heads: 1 }, { ...ROW_PLANS[0], columnRows: 4 });
    const rows = 9;
    const partial = await bench.zeros(3 * 260);
    const bad = noise(rows * 65, 7);
    bad[5 * 65 + 64] = Number.NaN;
    const dy = await bench.put(bad);
    await model.run((op) => op.biasGradient('h.0.attn.c_proj.bias', { dy, partial, rows }));
    expect((await model.report()).wrong).toEqual(['h.0.attn.c_proj.bias']);
    bad[5 * 65 + 64] = Number.POSITIVE_INFINITY;
    bench.gpu.write(dy, bad);
    const x = await bench.put(noise(rows * 65, 8));
    const [stats, dx] = [await bench.zeros(2 * rows), await bench.zeros(rows * 65)];
    await model.run((op) => op.layerNormGradient('h.0.ln_2', { x, stats, dy, dx, passing: true, partial, rows }));
    expect((await model.report()).wrong).toEqual(['h.0.ln_2.weight']);
  });
});
