import { beforeAll, describe, expect, test } from 'vitest';
import { KernelCache } from '../../src/gpu/kernel.js';
import { always, type MatmulVariant, scratchValues, shapeClass, variantFor } from '../../src/model/matmul-plan.js';
import { defaultPlan, type Plan } from '../../src/model/plan.js';
import { type Product, trainingProducts } from '../../src/model/products.js';
import { loadShaders } from '../../src/node/shaders.js';
import { holdContest, winnerOf } from '../../src/run/contest.js';
import { MatmulContest, matmulCandidates, matmulClasses, withVariants } from '../../src/run/matmul-contest.js';
import { GpuHarness } from '../gpu/harness.js';

let harness: GpuHarness;
let plan: Plan;
beforeAll(async () => {
  harness = await GpuHarness.open();
  plan = { ...defaultPlan(harness.gpu.adapter), matmul: always('tile64x64') };
});

const product = (changes: Partial<Product>): Product => ({
  layout: 'NN',
  m: 37,
  n: 35,
  k: 19,
  output: 'store',
  label: 'linear',
  lda: 19,
  ldb: 35,
  ldc: 35,
  count: 1,
  ...changes,
});

async function hold(kernels: KernelCache, p: Product, matmul = plan.matmul) {
  const contest = await MatmulContest.open(kernels, { ...plan, matmul }, p, true);
  try {
    return await holdContest(contest, 60_000, () => performance.now());
  } finally {
    contest.close();
  }
}

test('a contest finds right what is right, and register tiles bit-equal to workgroup tiles, for both outputs', async () => {
  const weights = { layout: 'TN', output: 'fixed', lda: 37 } as const;
  for (const p of [product({}), product(weights), product({ stack: 3 }), product({ ...weights, stack: 3 })]) {
    const entries = await hold(harness.kernels, p);
    expect(entries.length).toBeGreaterThan(1);
    for (const { candidate, examined } of entries) expect(examined?.wrong, candidate).toBeUndefined();
    expect(entries.find((e) => e.candidate === 'register4x4')?.examined).toEqual({ equal: true });
  }
});

test('a contest finds kernels bit-equal that split K alike', async () => {
  const p = product({ k: 300, lda: 300, stack: 2 });
  const entries = await hold(harness.kernels, p, always('tile64x64/kfit'));
  expect(scratchValues('tile64x64/kfit', p)).toBe(2 * 2 * 37 * 36);
  for (const { candidate, examined } of entries) expect(examined?.wrong, candidate).toBeUndefined();
  expect(entries.find((e) => e.candidate === 'register4x4/kfit')?.examined).toEqual({ equal: true });
});

test('a contest rejects a kernel that was broken on purpose, by its name', async () => {
  const shaders = loadShaders();
  // Register tiles lose the second of four terms; tiles in workgroup memory stay as they are.
  const broken = shaders.matmul_tile.replace('b.i0), p.y, b.i1)', 'b.i0), select(0.0, p.y, STAGED), b.i1)');
  expect(broken).not.toBe(shaders.matmul_tile);
  const entries = await hold(new KernelCache(harness.gpu, { ...shaders, matmul_tile: broken }), product({}));
  const rejected = entries.filter(({ examined }) => examined?.wrong !== undefined);
  const isBroken = ({ candidate }: { readonly candidate: string }) => candidate.startsWith('register');
  expect(rejected).toEqual(entries.filter(isBroken));
  expect(rejected.map(({ candidate }) => candidate)).toContain('register4x4');
  for (const { examined } of rejected) expect(examined?.wrong).toMatch(/wrong by/);
  expect(winnerOf(entries, true)).not.toMatch(/^register/);
});

describe('what is contested', () => {
  const adapter = { name: '', vendor: '', architecture: '', driver: '' };
  const gpu = { ...adapter, software: false, subgroupSize: undefined };
  const lavapipe = { ...adapter, software: true, subgroupSize: 8 };
  const model = { vocabSize: 77, context: 8, width: 16, layers: 3, heads: 2, tie: true, qkvBias: true };
  const shape = { batch: 2, context: 8, dropout: 0, recompute: false };

  test('one product of each shape class is contested, of the most work first', () => {
    const products = trainingProducts(model, shape, defaultPlan(gpu));
    expect(products.length).toBe(15);
    const classes = matmulClasses(products);
    expect(new Set(classes.map(shapeClass)).size).toBe(classes.length);
    expect(new Set(products.map(shapeClass)).size).toBe(classes.length);
    expect(classes[0].label).toMatch(/linear/);
  });

  test('what is contested depends on the adapter, and by itself on the order of additions', () => {
    const candidates = (a: typeof gpu | typeof lavapipe, base: MatmulVariant, anyBits: boolean) =>
      matmulCandidates(a, product({}), base, anyBits);
    expect(candidates(lavapipe, 'subgroup8', false)).toEqual(['subgroup8/16']);
    expect(candidates(lavapipe, 'subgroup8', true)).toEqual(['subgroup8/16', 'tile64x64', 'register4x4']);
    expect(matmulCandidates(lavapipe, product({}), 'subgroup8', true, false)).toEqual(['subgroup8/16']);
    expect(matmulCandidates({ ...gpu, software: true }, product({}), 'tile64x64', true, false)).toEqual([
      'register4x4',
    ]);
    expect(candidates(gpu, 'tile64x64', false)).toContain('tile128x128');
    expect(candidates(gpu, 'tile64x64', false).some((v) => v.startsWith('subgroup'))).toBe(false);
    expect(candidates(gpu, 'tile64x64/k4', false)).toEqual([]);
    // Where few tiles leave a GPU idle, split-K kernels are tried first; else large tiles.
    expect(matmulCandidates(gpu, product({ k: 512 }), 'tile64x64', true)[0]).toBe('tile32x32/k4');
    expect(matmulCandidates(gpu, product({ k: 512, stack: 2 }), 'tile64x64', true)[0]).toBe('tile32x32/k4');
    const weights = product({ layout: 'TN', output: 'fixed', k: 512, stack: 2 });
    expect(matmulCandidates(gpu, weights, 'tile64x64', true)[0]).not.toContain('/k');
    // Kernels with the same split have the same bits.
    const split = candidates(gpu, 'tile64x64/kfit', false);
    expect(split).toContain('tile128x128/kfit');
    expect(matmulCandidates(gpu, product({ k: 512 }), 'tile64x64/kfit', false)).toEqual(
      split.filter((v) => v.endsWith('/kfit')),
    );
    expect(matmulCandidates(gpu, product({ m: 8192, n: 8192 }), 'tile64x64', true).slice(0, 5)).toContain(
      'tile128x128',
    );
  });

  test('winners come before the other rules, and the graph gets the scratch they need', () => {
    const base = defaultPlan(gpu);
    const [first] = matmulClasses(trainingProducts(model, shape, base));
    const tuned = withVariants(base, new Map([[shapeClass(first), 'tile64x64/k4']]));
    expect(variantFor(tuned.matmul, first)).toBe('tile64x64/k4');
    expect(variantFor(tuned.matmul, product({}))).toBe('tile64x64/kfit');
    expect(scratchValues('tile64x64/k4', { ...first, k: 64 })).toBeGreaterThan(0);
  });
});
