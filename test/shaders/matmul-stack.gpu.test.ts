import { beforeAll, expect, test } from 'vitest';
import { DispatchList } from '../../src/gpu/list.js';
import type { View } from '../../src/gpu/view.js';
import { addMatmul, type MatmulArguments } from '../../src/model/matmul.js';
import { MATMUL_KERNELS } from '../../src/model/matmul-kernels.js';
import { always, type MatmulVariant } from '../../src/model/matmul-plan.js';
import { noise } from '../gpu/harness.js';
import { sampled } from '../thorough.js';
import { FILLER, harness, openHarness, run, runs, variants } from './matmul-problem.js';

beforeAll(openHarness);

const STACK = 3;

/** M, N, K, and by how much leading dimensions are longer than rows. */
const SIZES = [
  [37, 35, 9, 1],
  [64, 64, 20, 0],
  [5, 300, 7, 0],
] as const;

/** Every kernel that runs on this adapter; of the kernels for GPUs, which compile slowly elsewhere, only the default. */
function stackable(): MatmulVariant[] {
  const all = Object.keys(MATMUL_KERNELS) as MatmulVariant[];
  return all.filter((v) => runs(v) && (variants.includes(v) || !/^(tile|register)/.test(v)));
}

/** Matrices of `rows` rows of `ld` values, one below another: a view of all, and a view of each. */
async function stackOf(rows: number, ld: number, seed: number): Promise<{ all: View; each: View[] }> {
  const values = noise(STACK * rows * ld, seed);
  const each: View[] = [];
  for (let i = 0; i < STACK; i++) each.push(await harness.put(values.slice(i * rows * ld, (i + 1) * rows * ld)));
  return { all: await harness.put(values), each };
}

test.each(sampled(['NN', 'NT'] as const, 2))('a stack of stored products has the bits of each: %s', async (layout) => {
  for (const variant of [...stackable(), 'tile64x64/k2'] as const)
    for (const [m, n, k, pad] of SIZES) {
      const [lda, ldb, ldc] = [k + pad, (layout === 'NT' ? k : n) + pad, n + pad];
      const a = await stackOf(m, lda, 1);
      const b = await harness.put(noise((layout === 'NT' ? n : k) * ldb, 2));
      const args = { layout, m, n, k, lda, b, ldb } as const;
      const empty = (rows: number) => harness.put(new Float32Array(rows * ldc).fill(FILLER));
      const c = await empty(STACK * m);
      await run(variant, { ...args, stack: STACK, a: a.all, output: { kind: 'store', c, ldc } });
      const want: number[] = [];
      for (const own of a.each) {
        const single = await empty(m);
        await run(variant, { ...args, a: own, output: { kind: 'store', c: single, ldc } });
        want.push(...(await harness.floats(single)));
      }
      expect([...(await harness.floats(c))], `${variant} ${m}x${n}x${k}`).toEqual(want);
    }
});

test.each(sampled([true, false], 2))(
  'a stack of weight gradients is rounded product by product; accumulated: %s',
  async (accumulate) => {
    for (const variant of stackable())
      for (const [m, n, k, pad] of SIZES) {
        const [lda, ldb, ldc] = [m + pad, n + pad, n + pad];
        const [a, b] = [await stackOf(k, lda, 1), await stackOf(k, ldb, 2)];
        const args = { layout: 'TN', m, n, k, lda, ldb } as const;
        const start = new Uint32Array(noise(m * ldc, 5).buffer);
        const status = await harness.put(new Uint32Array([0]));
        const sums = async () => ({ low: await harness.put(start), high: await harness.put(start) });
        const output = { kind: 'fixed', status, ldc } as const;
        const got = await sums();
        await run(variant, { ...args, stack: STACK, a: a.all, b: b.all, output: { ...output, ...got, accumulate } });
        const want = await sums();
        for (let i = 0; i < STACK; i++) {
          const own = { ...output, ...want, accumulate: accumulate || i > 0 };
          await run(variant, { ...args, a: a.each[i], b: b.each[i], output: own });
        }
        const name = `${variant} ${m}x${n}x${k}`;
        for (const half of ['low', 'high'] as const)
          expect(await harness.words(got[half]), name).toEqual(await harness.words(want[half]));
        expect(await harness.words(got.low), name).not.toEqual(start);
        expect([...(await harness.words(status))], name).toEqual([0]);
      }
  },
);

test('what cannot be stacked is refused', async () => {
  const view = await harness.zeros(8192);
  const base = { m: 4, n: 4, k: 64, a: view, lda: 64, b: view, ldb: 64, stack: 2 } as const;
  const store = { kind: 'store', c: view, ldc: 4 } as const;
  const fixed = { kind: 'fixed', low: view, high: view, status: view, ldc: 4, accumulate: true } as const;
  const add = (args: MatmulArguments, variant: MatmulVariant = 'plain') =>
    addMatmul(new DispatchList(), always(variant), args);
  expect(() => add({ ...base, layout: 'TN', output: store })).toThrow('TN goes to fixed point');
  expect(() => add({ ...base, layout: 'NN', output: fixed })).toThrow('one of NN or NT is stored');
  expect(() => add({ ...base, layout: 'TN', output: fixed }, 'tile64x64/k2')).toThrow('splits K');
  expect(() => add({ ...base, layout: 'NT', m: 600, output: store })).toThrow(/2 times 600x4x64: A needs/);
});
