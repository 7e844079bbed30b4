import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { View } from '../../src/gpu/view.js';
import { MATMUL_KERNELS } from '../../src/model/matmul-kernels.js';
import type { MatmulVariant } from '../../src/model/matmul-plan.js';
import { rounded } from '../../src/reference/arithmetic.js';
import { fromWords, toFixedPoint } from '../../src/reference/fixed-point.js';
import { product, stored, storedGelu } from '../../src/reference/products.js';
import { dropoutFactors } from '../reference/operations.js';
import { sameBits } from '../reference/portable/same-bits.js';
import { IS_THOROUGH } from '../thorough.js';
import {
  FILLER,
  get,
  harness,
  LAYOUTS,
  openHarness,
  operands,
  problem,
  put,
  random,
  runPortably,
  runs,
} from './matmul-problem.js';

beforeAll(openHarness);

/** One for each shader that this or the second driver runs, with split-K and with kept sums. */
const QUICK: readonly MatmulVariant[] = ['subgroup8', 'subgroup4', 'tile64x64/kfit', 'register4x4/kept'];
const ALL: readonly MatmulVariant[] = [
  ...(Object.keys(MATMUL_KERNELS) as MatmulVariant[]),
  ...(['tile64x64/kfit', 'tile64x64/k2', 'tile64x64/kept', 'subgroup8/kept', 'register4x4/k4'] as const),
];

/** Rows, columns and terms: one segment, just more than one, several; sizes one past a tile, rows inside vec4s. */
const SIZES = [
  [1, 1, 1],
  [33, 66, 256],
  [17, 70, 257],
  [66, 131, 37],
  [9, 36, 600],
  [70, 300, 512],
] as const;

describe.each(IS_THOROUGH ? ALL : QUICK)('%s in portable arithmetic', (variant) => {
  beforeEach(({ skip }) => skip(!runs(variant), "this adapter's subgroups are not of its size"));

  test.each(LAYOUTS)('%s has the bits of the reference, whatever the sizes', async (layout) => {
    for (const [m, n, k] of SIZES) {
      const p = problem(layout, m, n, k);
      const values = { layout, m, n, k, a: p.a.values, b: p.b.values };
      const c = await put(random(m, n, 9), n, FILLER);
      await runPortably(variant, { ...(await operands(p, k % 4)), output: { kind: 'store', c, ldc: n } });
      sameBits(await get(c, m, n), stored(product(values), n, {}), `${m}x${n}x${k}`);
    }
  });

  test('a product that adds to C adds its segments to it in order', async () => {
    for (const k of [40, 300]) {
      const [m, n] = [20, 33];
      const p = problem('NN', m, n, k);
      const begin = random(m, n, 8);
      const c = await put(begin, n, FILLER);
      await runPortably(variant, { ...(await operands(p)), output: { kind: 'store', c, ldc: n, accumulate: true } });
      const acc = product({ layout: 'NN', m, n, k, a: p.a.values, b: p.b.values, begin: begin.values });
      sameBits(await get(c, m, n), stored(acc, n, {}), `${k} terms`);
    }
  });

  test('the epilogues have the bits of the reference', async () => {
    const [m, n, k, ldc] = [66, 131, 300, 135];
    const p = problem('NN', m, n, k);
    const acc = product({ layout: 'NN', m, n, k, a: p.a.values, b: p.b.values });
    const [bias, other] = [random(1, n, 5), random(m, n, 6)];
    other.values.set([20, -20, 0, -0, 1e-30, 100], 3);
    const views = { bias: await put(bias), other: await put(other, ldc) };
    const target = async (rounds: boolean): Promise<View> => {
      const view = await put(random(m, n, 9), ldc, FILLER);
      return rounds ? { ...view, rounded: true } : view;
    };
    for (const rounds of [false, true]) {
      const c = await target(rounds);
      const output = {
        kind: 'store',
        c,
        ldc,
        bias: views.bias,
        geluGradient: views.other,
        residual: views.other,
      } as const;
      await runPortably(variant, { ...(await operands(p)), output });
      const want = stored(acc, n, { bias: bias.values, geluGradient: other.values, residual: other.values, rounds });
      sameBits(await get(c, m, n, ldc), want, `rounds: ${rounds}`);
    }
    const [c, g] = [await target(false), await target(true)];
    await runPortably(variant, {
      ...(await operands(p)),
      output: { kind: 'store', c, ldc, bias: views.bias, gelu: g },
    });
    const want = storedGelu(acc, n, bias.values);
    sameBits(await get(c, m, n, ldc), want.hidden, 'hidden');
    sameBits(await get(g, m, n, ldc), want.gelu, 'GELU');

    const [firstSlot, probability, rowsPerSequence] = [41, 0.375, 3];
    const key = await harness.uniform([7, 8, firstSlot, probability * 2 ** 32, { f32: 1 / (1 - probability) }]);
    const dropped = await target(false);
    const output = { kind: 'store', c: dropped, ldc, bias: views.bias, residual: views.other } as const;
    const dropout = { key, rowsPerSequence };
    await runPortably(variant, { ...(await operands(p)), output: { ...output, dropout } });
    const factors = dropoutFactors([7, 8], probability, firstSlot, m / rowsPerSequence, rowsPerSequence * n);
    const through = stored(acc, n, { bias: bias.values, factors: Float32Array.from(factors), residual: other.values });
    sameBits(await get(dropped, m, n, ldc), through, 'dropout');
  });

  test('a product in fixed point has the integers of the reference, in a stack as well', async ({ skip }) => {
    skip(variant.includes('/k') && !variant.includes('/kept'), 'a stack of TN is not split');
    const [m, n, k, stack] = [34, 40, 300, 3];
    const all = problem('TN', m, n, k * stack);
    const zeros = async () => put({ rows: m, columns: n, values: new Float32Array(m * n) }, n, FILLER);
    const [low, high] = [await zeros(), await zeros()];
    const status = await harness.zeros(1);
    const output = { kind: 'fixed', low, high, status, ldc: n, accumulate: false } as const;
    await runPortably(variant, { ...(await operands(all)), k, stack, output });
    const sums = Array.from({ length: m * n }, () => 0n);
    for (let s = 0; s < stack; s++) {
      const [a, b] = [all.a.values.subarray(s * k * m), all.b.values.subarray(s * k * n)];
      for (const [i, v] of product({ layout: 'TN', m, n, k, a, b }).entries()) sums[i] += toFixedPoint(v);
    }
    const words = async (view: View) => new Uint32Array((await get(view, m, n)).buffer);
    const [lows, highs] = [await words(low), await words(high)];
    expect(Array.from(lows, (word, i) => fromWords(word, highs[i]))).toEqual(sums);
    expect([...(await harness.words(status))]).toEqual([0]);
  });
});

test('operands that are stored rounded, and copies of operands, have the bits of operands that kernels round', async () => {
  const [m, n, k] = [70, 600, 512];
  for (const layout of LAYOUTS) {
    const p = problem(layout, m, n, k);
    const want = stored(product({ layout, m, n, k, a: p.a.values, b: p.b.values }), n, {});
    const given = await operands(p);
    const roundedA = { ...(await put({ ...p.a, values: p.a.values.map(rounded) })), rounded: true };
    const roundedB = { ...(await put({ ...p.b, values: p.b.values.map(rounded) })), rounded: true };
    for (const variant of (['plain', 'subgroup8', 'tile64x64'] as const).filter(runs))
      for (const views of [{}, { a: roundedA }, { b: roundedB }, { a: roundedA, b: roundedB }]) {
        const c = await put(random(m, n, 9), n, FILLER);
        await runPortably(variant, { ...given, ...views, output: { kind: 'store', c, ldc: n } });
        sameBits(await get(c, m, n), want, `${layout} ${variant} ${Object.keys(views)}`);
      }
  }
});
