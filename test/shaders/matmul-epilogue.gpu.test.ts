import { beforeAll, describe, expect, test } from 'vitest';
import type { View } from '../../src/gpu/view.js';
import { threefry } from '../../src/util/random.js';
import { agree } from '../reference/agree.js';
import { slowTest } from '../slow.js';
import { sampled } from '../thorough.js';
import {
  FILLER,
  filled,
  get,
  harness,
  LAYOUTS,
  type Matrix,
  openHarness,
  operands,
  problem,
  put,
  random,
  run,
  variants,
} from './matmul-problem.js';

beforeAll(openHarness);

function geluReference(x: number): number {
  return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
}

function geluSlope(x: number): number {
  return (geluReference(x + 1e-5) - geluReference(x - 1e-5)) / 2e-5;
}

function bits(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}

describe('epilogues', () => {
  // Widths with every remainder by 4 that has code of its own: vectors, pairs, single values.
  const sizes = [
    [18, 36, 12],
    [35, 34, 9],
    [9, 33, 8],
  ];
  for (const [m, n, k] of sampled(sizes, 2)) {
    const p = problem('NN', m, n, k);
    const bias = random(1, n, 5);
    const other = random(m, n, 6);
    const want = (f: (acc: number, i: number) => number) => Array.from(p.product, (acc, i) => f(acc, i));

    test(`bias, gelu, its gradient and residual agree with float64, ${m}x${n}`, async () => {
      for (const variant of variants) {
        const ops = await operands(p);
        const ldc = n + 2;
        const [biasView, otherView] = [await put(bias), await put(other, ldc)];
        const fresh = () => put(random(m, n, 9), ldc, FILLER);
        const [c0, c1, c2, c3, g1, c4] = await Promise.all([fresh(), fresh(), fresh(), fresh(), fresh(), fresh()]);
        const store = { kind: 'store', ldc } as const;
        await run(
          variant,
          { ...ops, output: { ...store, c: c0, bias: biasView } },
          { ...ops, output: { ...store, c: c1, bias: biasView, gelu: g1 } },
          { ...ops, output: { ...store, c: c2, geluGradient: otherView } },
          { ...ops, output: { ...store, c: c3, residual: otherView } },
          { ...ops, output: { ...store, c: c4, bias: biasView, geluGradient: otherView, residual: otherView } },
        );
        const h = want((acc, i) => acc + bias.values[i % n]);
        const read = (view: View) => get(view, m, n, ldc);
        agree(await read(c0), h, 1e-6, `${variant} bias`);
        agree(await read(c1), h, 1e-6, `${variant} before gelu`);
        agree(await read(g1), h.map(geluReference), 1e-6, `${variant} gelu`);
        const slopes = Array.from(other.values, geluSlope);
        agree(
          await read(c2),
          want((acc, i) => acc * slopes[i]),
          1e-6,
          `${variant} gelu gradient`,
        );
        agree(
          await read(c3),
          want((acc, i) => acc + other.values[i]),
          1e-6,
          `${variant} residual`,
        );
        agree(
          await read(c4),
          h.map((v, i) => v * slopes[i] + other.values[i]),
          1e-6,
          `${variant} all`,
        );
      }
    });

    test(`dropout takes its factors from threefry, ${m}x${n}`, async () => {
      const [firstSlot, rowsPerSequence, threshold, scale] = [41, 7, 0x60000000, 1.5];
      const key = await harness.uniform([0x12345678, 0x9abcdef0, firstSlot, threshold, { f32: scale }]);
      const factors = Array.from(p.product, (_, i) => {
        const [row, column] = [Math.floor(i / n), i % n];
        const place = (row % rowsPerSequence) * n + column;
        const words = threefry([0x12345678, 0x9abcdef0], firstSlot + Math.floor(row / rowsPerSequence), place >> 1);
        return words[place & 1] < threshold ? 0 : scale;
      });
      const dropout = { key, rowsPerSequence };
      for (const variant of variants) {
        const ldc = n + 2;
        const [biasView, otherView] = [await put(bias), await put(other, ldc)];
        const ops = await operands(p);
        const [c0, c1] = [await put(other, ldc, FILLER), await put(other, ldc, FILLER)];
        await run(
          variant,
          { ...ops, output: { kind: 'store', c: c0, ldc, dropout } },
          { ...ops, output: { kind: 'store', c: c1, ldc, dropout, bias: biasView, residual: otherView } },
        );
        const dropped = await get(c0, m, n, ldc);
        agree(
          dropped,
          want((acc, i) => acc * factors[i]),
          1e-6,
          variant,
        );
        expect([...dropped].map((v) => v === 0)).toEqual(factors.map((f) => f === 0));
        agree(
          await get(c1, m, n, ldc),
          want((acc, i) => other.values[i] + (acc + bias.values[i % n]) * factors[i]),
          1e-6,
          `${variant} with bias and residual`,
        );
      }
    });
  }

  slowTest('windows of K that accumulate, the last with the epilogue, give the bits of one pass', async () => {
    const [n, k, cut] = [35, 23, 12];
    const bias = random(1, n, 5);
    for (const layout of LAYOUTS) {
      // The large tiles take seconds to compile: once is enough.
      const m = layout === 'NT' ? 5 : 19;
      const p = problem(layout, m, n, k);
      const part = (x: Matrix, alongRows: boolean, from: number, to: number): Matrix =>
        alongRows
          ? filled(to - from, x.columns, x.values.subarray(from * x.columns, to * x.columns))
          : filled(
              x.rows,
              to - from,
              [...x.values].filter((_, i) => i % x.columns >= from && i % x.columns < to),
            );
      for (const variant of variants) {
        const biasView = await put(bias);
        const once = await put(random(m, n, 9), n, FILLER);
        await run(variant, { ...(await operands(p)), output: { kind: 'store', c: once, ldc: n, bias: biasView } });
        const c = await put(random(m, n, 9), n, FILLER);
        for (const [from, to] of [
          [0, cut],
          [cut, k],
        ]) {
          const a = part(p.a, layout === 'TN', from, to);
          const b = part(p.b, layout !== 'NT', from, to);
          const output = {
            kind: 'store',
            c,
            ldc: n,
            accumulate: from > 0,
            bias: to === k ? biasView : undefined,
          } as const;
          await run(variant, { ...(await operands({ ...p, k: to - from, a, b })), output });
        }
        expect([...bits(await get(c, m, n))], `${variant} ${layout}`).toEqual([...bits(await get(once, m, n))]);
      }
    }
  });
});
