import { beforeAll, describe, expect, test } from 'vitest';
import { tokenLists } from '../../src/model/batch.js';
import { embedding, embeddingGradient } from '../../src/model/ops/embedding.js';
import { fixedPointSum } from '../../src/reference/fixed-point.js';
import { GpuHarness, noise } from '../gpu/harness.js';
import { OperationHarness } from '../model/harness.js';
import { agree } from '../reference/agree.js';
import {
  dropoutFactors,
  embeddingBackward,
  multiply,
  embedding as referenceEmbedding,
} from '../reference/operations.js';

let harness: GpuHarness;
beforeAll(async () => {
  harness = await GpuHarness.open();
});

const KEY = [0x12345678, 0x9abcdef0] as const;

function dropoutKey(p: number, firstSlot: number) {
  return harness.uniform([...KEY, firstSlot, Math.round(p * 2 ** 32), { f32: 1 / (1 - p) }]);
}

interface Case {
  readonly vocabSize: number;
  readonly width: number;
  readonly context: number;
  readonly tokens: readonly number[];
  readonly windowValues?: number;
}

const CASES: Record<string, Case> = {
  'one value': { vocabSize: 1, width: 1, context: 1, tokens: [0] },
  'a width one past a workgroup, repeated tokens': {
    vocabSize: 11,
    width: 65,
    context: 3,
    tokens: [10, 0, 10, 10, 5, 0],
  },
  'ids beyond 16 bits, four windows of the table, their first and last rows': {
    vocabSize: 70001,
    width: 3,
    context: 7,
    tokens: [0, 17535, 17536, 35071, 35072, 52608, 70000, 65535, 65536, 17535, 0, 70000, 69999, 35072],
    windowValues: 2 ** 16,
  },
};

describe.each(Object.entries(CASES))(
  'the embedding of %s',
  (_, { vocabSize, width: C, context: T, tokens, ...limits }) => {
    const M = tokens.length;
    const open = () => OperationHarness.create(harness, { vocabSize, width: C, context: T }, limits);

    test.each([0, 0.4])('the embedding agrees with float64, with dropout %d', async (p) => {
      const model = await open();
      if (limits.windowValues) expect(model.weights.layout.piecesOf('wte.weight').length).toBe(4);
      const [wte, wpe] = [model.fill('wte.weight', 1), model.fill('wpe.weight', 2)];
      const x = await harness.zeros(M * C);
      const views = { tokens: await harness.put(Uint32Array.from(tokens)), x, rows: M, context: T };
      const key = await dropoutKey(p, 5);
      await model.run((g) => embedding(g, { ...views, key, dropout: p > 0 }));
      const factors = dropoutFactors(KEY, p, 5, M / T, T * C);
      agree(await harness.floats(x), multiply(referenceEmbedding(tokens, wte, wpe, T, C), factors), 1e-6, 'x');
    });

    test('the gradient of the embedding, added twice, is twice that of float64', async () => {
      const model = await open();
      const values = noise(M * C, 3);
      const dx = await harness.put(values);
      const lists = await harness.put(tokenLists(Uint32Array.from(tokens)));
      await model.run((g) => embeddingGradient(g, { dx, lists, rows: M, context: T }), 2);
      const { dWte, dWpe } = embeddingBackward(tokens, values, { T, C, V: vocabSize });
      const twice = (g: Float64Array) => g.map((v) => 2 * v);
      agree(await model.gradient('wte.weight'), twice(dWte), 1e-6, 'wte');
      agree(await model.gradient('wpe.weight'), twice(dWpe), 1e-6, 'wpe');
      expect((await model.report()).nonFinite).toEqual([]);
    });
  },
);

test('the embedding names the table whose gradient is not finite', async () => {
  const model = await OperationHarness.create(harness, CASES['one value']);
  const lists = await harness.put(tokenLists(Uint32Array.of(0)));
  for (const value of [Number.NaN, Number.NEGATIVE_INFINITY, 4096]) {
    const dx = await harness.put([value]);
    await model.run((g) => embeddingGradient(g, { dx, lists, rows: 1, context: 1 }));
    expect((await model.report()).nonFinite).toEqual(['wte.weight', 'wpe.weight']);
    expect((await model.report()).nonFinite, 'taken reports are gone').toEqual([]);
  }
});

describe('token lists', () => {
  test('token lists hold each token once, in rising order, with its rows in rising order', () => {
    const unused = 0;
    expect([...tokenLists(Uint32Array.of(9, 2, 9, 70000, 2))]).toEqual([
      ...[3, 2, 9, 70000, unused, unused],
      ...[0, 2, 4, unused, unused],
      ...[1, 4, 0, 2, 3],
    ]);
  });
});

test('two launches round on their own: the sum is that of the rounded parts', async () => {
  const model = await OperationHarness.create(harness, CASES['one value']);
  const lists = await harness.put(tokenLists(Uint32Array.of(0)));
  // 0.75 of a step rounds to one step. Added before rounding, two would give 1.5 and three 2.25, both rounded to two.
  const values = [0.75 * 2 ** -40];
  const dx = await harness.put(values);
  await model.run((g) => embeddingGradient(g, { dx, lists, rows: 1, context: 1 }), 3);
  expect([...(await model.gradient('wte.weight'))]).toEqual([
    Number(fixedPointSum([values, values, values])[0]) * 2 ** -40,
  ]);
});
