import { beforeAll, describe, expect, test } from 'vitest';
import type { MatmulArguments } from '../../src/model/matmul.js';
import type { MatmulVariant } from '../../src/model/matmul-plan.js';
import { sampled } from '../thorough.js';
import { harness, LAYOUTS, openHarness, operands, problem, product, run, variants } from './matmul-problem.js';

beforeAll(openHarness);

/** value * 2^40, rounded to nearest even. The product is exact: a float32 times a power of two. */
function toSteps(value: number): bigint {
  const scaled = value * 2 ** 40;
  const floor = Math.floor(scaled);
  const rest = scaled - floor;
  return BigInt(floor + (rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? 1 : 0));
}

describe('fixed point', () => {
  async function fixedPointOf(
    variant: MatmulVariant,
    args: Omit<MatmulArguments, 'output'>,
    start: bigint,
    ldc: number,
  ) {
    const words = (shift: bigint) => new Uint32Array(args.m * ldc).fill(Number((start >> shift) & 0xffffffffn));
    const [low, high] = [await harness.put(words(0n)), await harness.put(words(32n))];
    const status = await harness.put(new Uint32Array([0]));
    await run(variant, { ...args, output: { kind: 'fixed', low, high, status, ldc, accumulate: true } });
    const [l, h] = [await harness.words(low), await harness.words(high)];
    const sums = Array.from(l, (_, i) => BigInt.asIntN(64, (BigInt(h[i]) << 32n) | BigInt(l[i])));
    return { sums, status: (await harness.words(status))[0] };
  }

  test('a product in fixed point adds the exact integers of the stored result', async () => {
    const start = -(2n ** 38n) - 12345n;
    // Weight gradients are TN.
    for (const layout of sampled(LAYOUTS.toReversed(), 3))
      for (const variant of variants)
        for (const [m, n, k] of [
          [37, 35, 9],
          [16, 64, 8],
        ]) {
          const p = problem(layout, m, n, k);
          const stored = await product(variant, p);
          const ldc = n + 1;
          const { sums, status } = await fixedPointOf(variant, await operands(p), start, ldc);
          const want = sums.map(
            (_, i) => start + (i % ldc < n ? toSteps(stored[Math.floor(i / ldc) * n + (i % ldc)]) : 0n),
          );
          expect(sums, `${variant} ${layout}`).toEqual(want);
          expect(status).toBe(0);
        }
  });

  test('a product in fixed point rounds ties to even and reports NaN, Inf and 2^12', async () => {
    const below = 4096 - 2 ** -11;
    const fine = [
      0,
      2 ** -41,
      -(2 ** -41),
      3 * 2 ** -41,
      -3 * 2 ** -41,
      2 ** -42,
      1e-30,
      -below,
      below,
      1 / 3,
      2 ** -149,
    ];
    const cases: [number[], number][] = [
      [fine, 0],
      [[1, 4096, 2], 2],
      [[1, 2, -1e30], 2],
      [[Number.NaN, 0, 0], 1],
      [[0, 0, 0, 0, Number.NEGATIVE_INFINITY], 1],
      [[0, Number.POSITIVE_INFINITY, 5000], 3],
    ];
    for (const variant of variants)
      for (const [values, wrong] of cases) {
        // Padded to one width, so that all cases share a pipeline.
        const row = Float32Array.from({ length: 12 }, (_, i) => values[i] ?? 0);
        const [a, b] = [await harness.put([1]), await harness.put(row)];
        const args = { layout: 'NN', m: 1, n: 12, k: 1, a, lda: 1, b, ldb: 12 } as const;
        const { sums, status } = await fixedPointOf(variant, args, 0n, 12);
        expect(status, `${variant} ${values}`).toBe(wrong);
        if (wrong === 0) expect(sums).toEqual([...row].map(toSteps));
      }
  });
});
