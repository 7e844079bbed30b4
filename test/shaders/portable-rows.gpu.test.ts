import { beforeAll, describe, expect, test } from 'vitest';
import { tokenLists } from '../../src/model/batch.js';
import { IGNORED_TARGET } from '../../src/model/gpt.js';
import { biasGradient } from '../../src/model/ops/columns.js';
import { embedding, embeddingGradient } from '../../src/model/ops/embedding.js';
import { crossEntropy } from '../../src/model/ops/loss.js';
import { norm, normGradient } from '../../src/model/ops/norm.js';
import { logitsStride } from '../../src/model/shape.js';
import { fromWords, toFixedPoint } from '../../src/reference/fixed-point.js';
import * as reference from '../../src/reference/rows.js';
import { GpuHarness, noise } from '../gpu/harness.js';
import { OperationHarness, ROW_PLANS } from '../model/harness.js';
import { dropoutFactors } from '../reference/operations.js';
import { sameBits } from '../reference/portable/same-bits.js';

let harness: GpuHarness;
beforeAll(async () => {
  harness = await GpuHarness.open();
});

const KEY = [0x12345678, 0x9abcdef0] as const;
const [P, FIRST_SLOT] = [0.25, 0xfffffffa];
const SCALE = Math.fround(1 / (1 - P));

const dropoutKey = () => harness.uniform([...KEY, FIRST_SLOT, P * 2 ** 32, { f32: SCALE }]);
const factorsFor = (sequences: number, places: number) =>
  Float32Array.from(dropoutFactors(KEY, P, FIRST_SLOT, sequences, places));

/** Rows with a mean far from zero, rows of one value, and rows whose squares are below 2^-100. */
function awkward(values: Float32Array, width: number): Float32Array {
  const kinds = [(v: number) => v, (v: number) => v + 100, () => 0.1, (v: number) => v * 1e-16, (v: number) => v * 1e6];
  return values.map((v, i) => kinds[Math.floor(i / width) % kinds.length](v));
}

/** Rows of gradients: every third one so small that some products with it become zero. */
function faint(values: Float32Array, width: number): Float32Array {
  return values.map((v, i) => (Math.floor(i / width) % 3 === 2 ? v * 4e-29 : v));
}

/** Some values that are zero, negative zero, or small enough for a product with them to become zero. */
function sparse(values: Float32Array): Float32Array {
  return values.map((v, i) => v * ([0, -0, 1e-30, 1e-13][i % 11] ?? 1));
}

/** The integers of a parameter's sums. */
async function integers(model: OperationHarness, name: string): Promise<BigInt64Array> {
  const { low, high } = model.sums;
  const words = async (half: typeof low) => new Uint32Array((await half.read(harness.gpu, name)).buffer);
  const [l, h] = [await words(low), await words(high)];
  return BigInt64Array.from(l, (word, i) => fromWords(word, h[i]));
}

/** Integers of the values of some micro-batches, each rounded to fixed point, `times` times. */
function fixed(parts: readonly Float32Array[], times = 1): BigInt64Array {
  return BigInt64Array.from(parts[0], (_, i) =>
    parts.reduce((sum, part) => sum + BigInt(times) * toFixedPoint(part[i]), 0n),
  );
}

/** The rows of each micro-batch of a stack. */
function split<T extends Float32Array | readonly number[]>(values: T, stack: number): T[] {
  const size = values.length / stack;
  return Array.from({ length: stack }, (_, s) => values.slice(s * size, (s + 1) * size) as T);
}

const SHAPES = [
  { rows: 1, stack: 1, C: 1 },
  { rows: 9, stack: 1, C: 6 },
  { rows: 67, stack: 1, C: 65 },
  { rows: 3, stack: 3, C: 130 },
  { rows: 17, stack: 2, C: 256 },
] as const;

describe.each(ROW_PLANS)('portable arithmetic of a plan with $rowLanes lanes a row', (plan) => {
  test.each(SHAPES)(
    'LayerNorm has the bits of the reference, forward and backward: $stack times $rows rows of $C',
    async ({ rows, stack, C }) => {
      const M = stack * rows;
      // No bit depends on the plan's chunks of columns.
      const model = await OperationHarness.create(harness, { width: C, heads: 1 }, { ...plan, columnRows: 4 }, true);
      const [gain, bias] = [model.fill('ln_f.weight', 1), model.fill('ln_f.bias', 2)];
      const values = awkward(noise(M * C, 3), C);
      const dyValues = faint(sparse(noise(M * C, 4)), C);
      const [x, dy] = [await harness.put(values), await harness.put(dyValues)];
      const [y, stats] = [await harness.zeros(M * C), await harness.zeros(2 * M)];
      const shape = { rows, stack };
      await model.run((g) => norm(g, 'ln_f', { x, y, stats, ...shape }));
      const { y: wantY, ...statistics } = reference.layerNorm(values, gain, bias, C);
      const got = await harness.floats(stats);
      sameBits(
        got.filter((_, i) => i % 2 === 0),
        statistics.mean,
        'mean',
      );
      sameBits(
        got.filter((_, i) => i % 2 === 1),
        statistics.rstd,
        'rstd',
      );
      sameBits(await harness.floats(y), wantY, 'y');

      const residual = faint(noise(M * C, 5), C);
      const rowsPerSequence = rows % 3 === 0 ? 3 : rows;
      const factors = factorsFor(M / rowsPerSequence, rowsPerSequence * C);
      const key = await dropoutKey();
      const parameters = { x: values, statistics, gain, dy: dyValues, C };
      for (const accumulate of [false, true]) {
        for (const drops of [false, true]) {
          const want = reference.layerNormBackward({
            ...parameters,
            residual: accumulate ? residual : undefined,
            factors: drops ? factors : undefined,
          });
          const [dx, gradient] = [await harness.put(residual), await harness.zeros(M * C)];
          const passes = drops ? { dropout: { key, rowsPerSequence, gradient } } : { roundedGradient: gradient };
          await model.run((g) => normGradient(g, 'ln_f', { x, stats, dy, dx, accumulate, ...shape, ...passes }));
          const what = `accumulate ${accumulate}, dropout ${drops}`;
          sameBits(await harness.floats(dx), want.dx, `dx, ${what}`);
          sameBits(await harness.floats(gradient), want.dropped, `dropped, ${what}`);
        }
      }
      const parts = Array.from({ length: stack }, (_, s) => {
        const of = (array: Float32Array, width: number) => array.subarray(s * rows * width, (s + 1) * rows * width);
        const own = { mean: of(statistics.mean, 1), rstd: of(statistics.rstd, 1) };
        return reference.layerNormBackward({
          ...parameters,
          x: of(values, C),
          dy: of(dyValues, C),
          statistics: own,
        });
      });
      const [gains, biases] = [parts.map((part) => part.dGain), parts.map((part) => part.dBias)];
      expect(await integers(model, 'ln_f.weight')).toEqual(fixed(gains, 4));
      expect(await integers(model, 'ln_f.bias')).toEqual(fixed(biases, 4));
      expect((await model.report()).nonFinite).toEqual([]);
    },
  );

  test.each([
    { rows: 1, stack: 1, width: 1 },
    { rows: 67, stack: 3, width: 15 },
    { rows: 16, stack: 2, width: 86 },
  ])(
    'sums of columns are those of the reference: $stack times $rows rows of a bias of 3 x $width',
    async ({ rows, stack, width }) => {
      const model = await OperationHarness.create(harness, { width, heads: 1 }, { ...plan, columnRows: 8 }, true);
      const values = sparse(noise(stack * rows * 3 * width, 6, 100));
      const dy = await harness.put(values);
      await model.run((g) => biasGradient(g, 'h.0.attn.c_attn.bias', { dy, rows, stack }), 2);
      const want = split(values, stack).map((part) => reference.columnSums(part, 3 * width));
      expect(await integers(model, 'h.0.attn.c_attn.bias')).toEqual(fixed(want, 2));
    },
  );

  test('a NaN or an infinity reaches what LayerNorm stores and the status of its gradients', async () => {
    const [rows, C] = [9, 65];
    const model = await OperationHarness.create(harness, { width: C, heads: 1 }, plan, true);
    model.fill('ln_f.weight', 1);
    const [y, stats] = [await harness.zeros(rows * C), await harness.zeros(2 * rows)];
    const [dx, gradient] = [await harness.zeros(rows * C), await harness.zeros(rows * C)];
    for (const bad of [Number.NaN, Number.NEGATIVE_INFINITY]) {
      const values = noise(rows * C, 7);
      values[4 * C + 64] = bad;
      const [good, badView] = [await harness.put(noise(rows * C, 8)), await harness.put(values)];
      await model.run((g) => norm(g, 'ln_f', { x: badView, y, stats, rows }));
      expect((await harness.floats(y)).subarray(4 * C, 5 * C).every(Number.isNaN)).toBe(true);
      await model.run((g) => norm(g, 'ln_f', { x: good, y, stats, rows }));
      const views = { x: good, stats, dy: badView, dx, rows, accumulate: false, roundedGradient: gradient };
      await model.run((g) => normGradient(g, 'ln_f', views));
      expect((await model.report()).nonFinite).toEqual(['ln_f.weight']);
      for (const view of [dx, gradient])
        expect((await harness.floats(view)).subarray(4 * C, 5 * C).some(Number.isFinite)).toBe(false);
    }
  });

  test.each([
    [1, 7],
    [9, 256],
    [67, 7],
    [67, 1000],
  ])('cross-entropy has the bits of the reference: %d rows of %d logits', async (rows, V) => {
    const model = await OperationHarness.create(harness, { vocabSize: V }, plan, true);
    const stride = logitsStride(model.weights.layout.config);
    const targets = Uint32Array.from({ length: rows }, (_, r) => (r * 7 + 3) % V);
    if (rows > 8) targets[rows - 2] = IGNORED_TARGET;
    const logits = noise(rows * stride, 11, 5);
    for (let r = 0; r < rows; r++) {
      const row = logits.subarray(r * stride, r * stride + V);
      if (r % 8 === 1) row.fill(-1e30);
      if (r % 8 === 2) row.fill(1e30);
      if (r % 8 === 3) row[r % V] = 3000;
      if (r % 8 === 4) row[targets[r] % V] = 3000;
      if (r % 8 === 5) row.set(row.map((v) => v * 20 - 1000));
      if (r % 8 === 6) row.fill(0);
      if (r % 8 === 7) row.set(row.map((v) => v * 1e-7));
      // What is beyond the vocabulary neither counts nor changes.
      logits.subarray(r * stride + V, (r + 1) * stride).fill(3e38);
    }
    const scale = 0.3;
    const want = reference.crossEntropy(logits, stride, V, targets, Math.fround(scale));
    const views = { targets: await harness.put(targets), losses: await harness.zeros(rows), rows, stride };
    const view = await harness.put(logits);
    await model.run((g) => crossEntropy(g, { ...views, logits: view }));
    sameBits(await harness.floats(views.losses), want.losses, 'losses');
    sameBits(await harness.floats(view), logits, 'logits');
    const factor = await harness.uniform([{ f32: scale }]);
    await model.run((g) => crossEntropy(g, { ...views, logits: view, scale: factor }));
    sameBits(await harness.floats(views.losses), want.losses, 'losses beside gradients');
    sameBits(await harness.floats(view), want.gradient, 'gradients');
  });

  test('a NaN or an infinity among the logits becomes the loss of its row alone', async () => {
    const [rows, V] = [17, 61];
    const model = await OperationHarness.create(harness, { vocabSize: V }, plan, true);
    const stride = logitsStride(model.weights.layout.config);
    const targets = Uint32Array.from({ length: rows }, (_, r) => (r * 7 + 3) % V);
    for (const bad of [Number.NaN, Number.NEGATIVE_INFINITY])
      for (const at of [0, 30, 60]) {
        const logits = noise(rows * stride, 12);
        logits[4 * stride + at] = bad;
        const losses = await harness.zeros(rows);
        const views = { logits: await harness.put(logits), targets: await harness.put(targets), losses, rows, stride };
        await model.run((g) => crossEntropy(g, views));
        const got = await harness.floats(losses);
        expect(got[4], `${bad} at ${at}`).toBe(Math.abs(bad));
        const want = reference.crossEntropy(logits, stride, V, targets, 1).losses;
        [got[4], want[4]] = [0, 0];
        sameBits(got, want, 'other losses');
      }
  });
});

describe('the embedding in portable arithmetic', () => {
  const tokens = [10, 0, 10, 10, 5, 0, 10, 3, 3, 10, 10, 0];
  const [T, V, stack] = [3, 11, 2];

  test.each([
    [1, false],
    [65, false],
    [65, true],
    [130, true],
  ])('the embedding has the bits of the reference: %d columns, dropout %s', async (C, dropout) => {
    const model = await OperationHarness.create(harness, { vocabSize: V, width: C, heads: 1, context: T }, {}, true);
    const [wte, wpe] = [sparse(noise(V * C, 1)), sparse(noise(T * C, 2))];
    model.weights.write(harness.gpu, 'wte.weight', wte);
    model.weights.write(harness.gpu, 'wpe.weight', wpe);
    const x = await harness.zeros(tokens.length * C);
    const tokenView = await harness.put(Uint32Array.from(tokens));
    const key = await dropoutKey();
    await model.run((g) => embedding(g, { tokens: tokenView, x, rows: tokens.length, context: T, key, dropout }));
    const factors = dropout ? factorsFor(tokens.length / T, T * C) : undefined;
    sameBits(await harness.floats(x), reference.embedding(tokens, wte, wpe, { T, C }, factors), 'x');

    const values = sparse(noise(tokens.length * C, 3));
    const lists = await harness.put(tokenLists(Uint32Array.from(tokens)));
    const dx = await harness.put(values);
    const rows = tokens.length / stack;
    await model.run((g) => embeddingGradient(g, { dx, lists, rows, stack, context: T }), 2);
    const own = split(values, stack);
    const parts = split(tokens, stack).map((part, s) => reference.embeddingBackward(part, own[s], { T, C, V }));
    const [wtes, wpes] = [parts.map((part) => part.dWte), parts.map((part) => part.dWpe)];
    expect(await integers(model, 'wte.weight')).toEqual(fixed(wtes, 2));
    expect(await integers(model, 'wpe.weight')).toEqual(fixed(wpes, 2));
  });
});
