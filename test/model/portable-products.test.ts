import { expect, test } from 'vitest';
import { always, splitOf, variantFor } from '../../src/model/matmul-plan.js';
import { defaultPlan } from '../../src/model/plan.js';
import { trainingProducts, trainingScratch } from '../../src/model/products.js';

const GPU = { name: '', vendor: '', architecture: '', driver: '', software: false, subgroupSize: 32 };
const MODEL = { vocabSize: 1024, context: 256, width: 1024, layers: 1, heads: 16, tie: false, qkvBias: true };

test('products of a portable graph are split by segments, and the scratch holds the sums of all of them', () => {
  const plan = { ...defaultPlan(GPU), matmul: always('tile64x64/kfit') };
  const shape = { batch: 4, context: 256, dropout: 0 };
  const products = trainingProducts(MODEL, { ...shape, precision: 'portable' }, plan);
  const split = products.filter((p) => splitOf(variantFor(plan.matmul, p), p).splitK > 1);
  expect(split.length).toBeGreaterThan(0);
  for (const p of split) expect(splitOf(variantFor(plan.matmul, p), p)).toEqual({ splitK: p.k / 256, terms: 256 });
  const most = Math.max(...split.map(({ m, n, k, stack = 1 }) => (k / 256) * m * stack * n));
  expect(trainingScratch(MODEL, { ...shape, precision: 'portable' }, plan)).toBe(most);
  // In float32 they are split in fewer parts, so its scratch would not do.
  expect(trainingScratch(MODEL, { ...shape, precision: 'f32' }, plan)).toBeLessThan(most);
});
