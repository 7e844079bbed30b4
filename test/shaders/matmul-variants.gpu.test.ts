import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { View } from '../../src/gpu/view.js';
import { MATMUL_KERNELS, type ProductShape } from '../../src/model/matmul-kernels.js';
import { isMatmulVariant, type MatmulVariant, scratchValues, splitOf } from '../../src/model/matmul-plan.js';
import { toFixedPoint } from '../../src/reference/fixed-point.js';
import { threefry } from '../../src/util/random.js';
import { agree } from '../reference/agree.js';
import { sampled } from '../thorough.js';
import { FILLER, get, harness, openHarness, operands, problem, put, random, run, runs } from './matmul-problem.js';

beforeAll(openHarness);

const SPLIT: readonly MatmulVariant[] = ['tile64x64/k2', 'tile32x32/k8', 'register4x4/k4'];
/** The kernels that the other tests of matrix products leave out. */
const OTHERS = [...(Object.keys(MATMUL_KERNELS) as MatmulVariant[]), ...SPLIT].filter(
  (name) => !/^(subgroup\d+|tile64x64)$/.test(name),
);

function gelu(x: number): number {
  return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
}

const slope = (x: number) => (gelu(x + 1e-5) - gelu(x - 1e-5)) / 2e-5;

// Sizes one past a tile or a step, or odd. Every kernel meets each layout and each epilogue.
describe.each(sampled(OTHERS, 6))('%s', (variant) => {
  beforeEach(({ skip }) => skip(!runs(variant), "this adapter's subgroups are not of its size"));

  test('a kernel stores with bias, the gradient of GELU and a residual, rows apart', async () => {
    const [m, n, k, ldc] = [66, 131, 37, 135];
    const p = problem('NN', m, n, k);
    const [bias, other] = [random(1, n, 5), random(m, n, 6)];
    const c = await put(random(m, n, 9), ldc, FILLER);
    const otherView = await put(other, ldc);
    const output = {
      kind: 'store',
      c,
      ldc,
      bias: await put(bias),
      geluGradient: otherView,
      residual: otherView,
    } as const;
    await run(variant, { ...(await operands(p, 3)), output });
    const want = p.product.map((acc, i) => {
      const x = other.values[i];
      return (acc + bias.values[i % n]) * slope(x) + x;
    });
    agree(await get(c, m, n, ldc), want, 1e-6, variant);
  });

  test('a kernel stores GELU and its argument', async () => {
    const [m, n, k] = [33, 36, 20];
    const p = problem('NT', m, n, k);
    const [c, g] = [await put(random(m, n, 9), n, FILLER), await put(random(m, n, 9), n, FILLER)];
    await run(variant, { ...(await operands(p)), output: { kind: 'store', c, ldc: n, gelu: g } });
    agree(await get(c, m, n), p.product, 1e-6, variant);
    agree(await get(g, m, n), p.product.map(gelu), 1e-6, variant);
  });

  test('a kernel drops out, starting from what was there', async () => {
    const [m, n, k] = [5, 70, 9];
    const p = problem('TN', m, n, k);
    const before = random(m, n, 8);
    const [firstSlot, threshold, scale] = [41, 0x60000000, 1.5];
    const key: View = await harness.uniform([7, 8, firstSlot, threshold, { f32: scale }]);
    const c = await put(before, n, FILLER);
    const dropout = { key, rowsPerSequence: 2 };
    await run(variant, { ...(await operands(p, 2)), output: { kind: 'store', c, ldc: n, accumulate: true, dropout } });
    const want = p.product.map((acc, i) => {
      const [row, column] = [Math.floor(i / n), i % n];
      const place = (row % 2) * n + column;
      const word = threefry([7, 8], firstSlot + Math.floor(row / 2), place >> 1)[place & 1];
      return word < threshold ? 0 : (before.values[i] + acc) * scale;
    });
    agree(await get(c, m, n), want, 1e-6, variant);
  });

  test('a kernel adds integers of fixed point', async () => {
    const [m, n, k, start] = [35, 34, 67, -12345n];
    const p = problem('TN', m, n, k);
    const words = (shift: bigint) => new Uint32Array(m * n).fill(Number((start >> shift) & 0xffffffffn));
    const [low, high] = [await harness.put(words(0n)), await harness.put(words(32n))];
    const status = await harness.put(new Uint32Array([0]));
    const c = await put(random(m, n, 9), n, FILLER);
    const args = await operands(p);
    await run(
      variant,
      { ...args, output: { kind: 'store', c, ldc: n } },
      { ...args, output: { kind: 'fixed', low, high, status, ldc: n, accumulate: true } },
    );
    const stored = await get(c, m, n);
    agree(stored, p.product, 1e-6, variant);
    const [l, h] = [await harness.words(low), await harness.words(high)];
    const sums = Array.from(l.subarray(0, m * n), (_, i) => BigInt.asIntN(64, (BigInt(h[i]) << 32n) | BigInt(l[i])));
    expect(sums).toEqual(Array.from(stored, (value) => start + toFixedPoint(value)));
    expect((await harness.words(status))[0]).toBe(0);
  });
});

describe('a split along K', () => {
  const shape = (m: number, n: number, k: number): ProductShape => ({ layout: 'TN', m, n, k, output: 'fixed' });

  test('a split along K makes parts of whole steps that cover K, as many as asked for or fewer', () => {
    expect(splitOf('tile64x64/k4', shape(64, 64, 512))).toEqual({ splitK: 4, terms: 128 });
    expect(splitOf('tile64x64/k4', shape(64, 64, 100))).toEqual({ splitK: 4, terms: 32 });
    expect(splitOf('tile64x64/k32', shape(64, 64, 100))).toEqual({ splitK: 7, terms: 16 });
    expect(splitOf('tile64x64/k8', shape(64, 64, 7))).toEqual({ splitK: 1, terms: 7 });
    expect(splitOf('tile64x64', shape(64, 64, 512))).toEqual({ splitK: 1, terms: 512 });
  });

  test('a split along K fills a GPU where it fits: stored products of few tiles only, whatever kernel and stack', () => {
    const stored = (m: number, n: number, k: number): ProductShape => ({ layout: 'NN', m, n, k, output: 'store' });
    for (const variant of ['tile64x64/kfit', 'tile128x128/kfit', 'register4x4/kfit'] as const) {
      expect(splitOf(variant, stored(256, 768, 3072))).toEqual({ splitK: 10, terms: 320 });
      expect(splitOf(variant, { ...stored(256, 768, 3072), stack: 2 })).toEqual({ splitK: 10, terms: 320 });
      expect(splitOf(variant, stored(64, 64, 300))).toEqual({ splitK: 2, terms: 160 });
      expect(splitOf(variant, stored(64, 64, 255)).splitK).toBe(1);
      expect(splitOf(variant, stored(256, 25152, 768)).splitK).toBe(1);
      expect(splitOf(variant, shape(64, 64, 3072)).splitK).toBe(1);
    }
  });

  test('a split along K takes no more than 64 MiB of scratch', () => {
    expect(scratchValues('tile64x64/k4', shape(64, 63, 512))).toBe(4 * 64 * 64);
    const stacked = { layout: 'NN', m: 64, n: 63, k: 512, output: 'store', stack: 3 } as const;
    expect(scratchValues('tile64x64/k4', stacked)).toBe(3 * 4 * 64 * 64);
    expect(splitOf('tile64x64/k8', shape(2048, 2048, 512)).splitK).toBe(4);
    expect(splitOf('tile64x64/k8', shape(4096, 4096, 512)).splitK).toBe(1);
  });

  test('a split along K is refused for kernels and numbers that do not split', () => {
    for (const name of ['subgroup8/k2', 'plain/k2', 'tile64x64/k3', 'tile64x64/k', 'tile64x64/k2/k2'])
      expect(isMatmulVariant(name), name).toBe(false);
    expect(isMatmulVariant('subgroup8/kfit')).toBe(false);
    expect(isMatmulVariant('tile64x128/8x8/k16')).toBe(true);
  });
});
