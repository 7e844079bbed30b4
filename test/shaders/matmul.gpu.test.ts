import { beforeAll, describe, expect, test } from 'vitest';
import { DispatchList } from '../../src/gpu/list.js';
import { addMatmul, type MatmulArguments } from '../../src/model/matmul.js';
import { always } from '../../src/model/matmul-plan.js';
import { noise } from '../gpu/harness.js';
import { agree } from '../reference/agree.js';
import { slowTest } from '../slow.js';
import { sampled } from '../thorough.js';
import {
  FILLER,
  get,
  harness,
  LAYOUTS,
  openHarness,
  problem,
  product,
  put,
  random,
  run,
  variants,
} from './matmul-problem.js';

beforeAll(openHarness);

describe('products agree with float64', () => {
  const shapes: [number, number, number, number][] = [
    // m, n, k, padding of the leading dimensions
    [1, 1, 1, 0],
    [1, 40, 7, 1],
    [17, 33, 5, 0],
    [13, 31, 37, 3],
    [33, 68, 20, 0],
    [20, 36, 16, 4],
    [65, 129, 67, 1],
    [9, 52, 32, 0],
  ];
  for (const [m, n, k, pad] of sampled(shapes, 2))
    for (const layout of LAYOUTS)
      test(`${layout} ${m}x${n}x${k} agrees with float64, rows ${pad} values apart`, async () => {
        const p = problem(layout, m, n, k);
        for (const variant of variants) agree(await product(variant, p, pad), p.product, 1e-6, variant);
      });

  test('products of widths that are no multiples of 4 under leading dimensions that are agree with float64', async () => {
    for (const layout of LAYOUTS)
      for (const variant of variants) {
        const p = problem(layout, 18, 35, 11);
        const [lda, ldb] = [p.a.columns, p.b.columns].map((w) => Math.ceil(w / 4) * 4);
        const c = await put(random(p.m, p.n, 9), p.n, FILLER);
        const { m, n, k } = p;
        const [a, b] = [await put(p.a, lda), await put(p.b, ldb)];
        await run(variant, { layout, m, n, k, a, lda, b, ldb, output: { kind: 'store', c, ldc: n } });
        agree(await get(c, m, n), p.product, 1e-6, `${variant} ${layout}`);
      }
  });

  slowTest('products of more tiles than a dimension of a dispatch holds are exact', async () => {
    const n = 64 * 65536 + 1;
    const b = noise(n, 3);
    const [a, c] = [await harness.put([2]), await harness.zeros(n)];
    const bView = await harness.put(b);
    for (const variant of variants) {
      const output = { kind: 'store', c, ldc: n, accumulate: true } as const;
      await run(variant, { layout: 'NN', m: 1, n, k: 1, a, lda: 1, b: bView, ldb: n, output });
    }
    const got = await harness.floats(c);
    expect(got.findIndex((v, i) => v !== 2 * variants.length * b[i])).toBe(-1);
    for (const view of [a, c, bView]) harness.gpu.release(view);
  });
});

describe('refusals', () => {
  test('sizes, leading dimensions and views that do not fit are refused', async () => {
    const view = await harness.put(new Float32Array(16));
    const args = { layout: 'NN', m: 4, n: 4, k: 4, a: view, lda: 4, b: view, ldb: 4 } as const;
    const output = { kind: 'store', c: view, ldc: 4 } as const;
    const add = (more: Partial<MatmulArguments>) => () =>
      addMatmul(new DispatchList(), always('tile64x64'), { ...args, output, ...more });
    expect(add({})).not.toThrow();
    expect(add({ m: 0 })).toThrow(RangeError);
    expect(add({ m: 5 })).toThrow(RangeError);
    expect(add({ lda: 3 })).toThrow(RangeError);
    expect(add({ output: { ...output, ldc: 5 } })).toThrow(RangeError);
    expect(add({ output: { ...output, gelu: view, residual: view } })).toThrow(RangeError);
  });
});
