import { beforeAll, beforeEach, expect, test } from 'vitest';
import type { View } from '../../src/gpu/view.js';
import type { Layout } from '../../src/model/matmul-kernels.js';
import { isMatmulVariant, type MatmulVariant, scratchValues } from '../../src/model/matmul-plan.js';
import { noise } from '../gpu/harness.js';
import { agree } from '../reference/agree.js';
import { sampled } from '../thorough.js';
import { FILLER, get, harness, openHarness, operands, problem, product, put, random, run } from './matmul-problem.js';

let tall: MatmulVariant;
/** A kernel with the same additions that reads the operands where they are. */
let short: MatmulVariant;

beforeAll(openHarness);
beforeEach(({ skip }) => {
  const name = `subgroup${harness.gpu.adapter.subgroupSize}`;
  const other = `${name}/16`;
  if (!isMatmulVariant(name) || !isMatmulVariant(other)) return skip('only subgroups of one size copy operands');
  [tall, short] = [name, other];
});

// Cases: A transposed; B too, with many rows; rows that begin in the same sets of a cache spaced, where they are not
// transposed; sizes above a tile, and odd.
const SIZES = [
  ['NT', 33, 260, 67, 0],
  ['NT', 70, 257, 66, 3],
  ['NT', 18, 256, 512, 0],
  ['NT', 18, 259, 512, 4],
  ['NT', 513, 257, 35, 0],
  ['NT', 257, 259, 512, 5],
  ['NN', 21, 514, 67, 0],
  ['NN', 40, 256, 512, 0],
  ['NN', 37, 301, 1024, 0],
  ['NN', 37, 301, 512, 2],
] as const;

test.each(sampled(SIZES, 2))(
  '%s %ix%ix%i with rows %i values apart has the bits of the kernel without copies',
  async (layout, m, n, k, pad) => {
    const p = problem(layout, m, n, k);
    const got = await product(tall, p, pad);
    agree(got, p.product, 3e-6, tall);
    const other = await product(short, p, pad);
    expect(got.findIndex((v, i) => v !== other[i])).toBe(-1);
  },
);

test('copies of float16 beside an operand that is not have the bits of the kernel without copies', async ({ skip }) => {
  if (!harness.gpu.has('shader-f16')) return skip('this adapter has no float16');
  // Quarters from -2 to 2: float16 holds them, and sums of their products are exact.
  const quarters = (count: number, seed: number) => noise(count, seed).map((v) => Math.round(8 * v) / 4);
  for (const [layout, m, n, k] of [
    ['NT', 21, 257, 512],
    ['NN', 34, 256, 512],
  ] as const) {
    const p = { ...problem(layout, m, n, k), a: matrix(m, k, 1), b: matrix(...sizeOfB(layout, n, k), 2) };
    const c = await put(random(m, n, 9), n, FILLER);
    const f16 = await putF16(p.a.values);
    await run(tall, { ...(await operands(p)), a: f16, output: { kind: 'store', c, ldc: n } });
    const got = await get(c, m, n);
    const want = await product(short, p);
    expect(want.some((v) => v !== 0)).toBe(true);
    expect(got).toEqual(want);
  }

  function matrix(rows: number, columns: number, seed: number) {
    return { rows, columns, values: quarters(rows * columns, seed) };
  }
});

function sizeOfB(layout: Layout, n: number, k: number): [rows: number, columns: number] {
  return layout === 'NT' ? [n, k] : [k, n];
}

/** Quarters between -2 and 2 as float16. */
async function putF16(values: Float32Array): Promise<View> {
  const bits = (v: number) => {
    if (v === 0) return 0;
    const exponent = Math.floor(Math.log2(Math.abs(v)));
    const mantissa = Math.abs(v) / 2 ** exponent - 1;
    return (v < 0 ? 0x8000 : 0) | ((exponent + 15) << 10) | (mantissa * 1024);
  };
  const words = new Uint16Array(2 * Math.ceil(values.length / 2));
  values.forEach((v, i) => {
    words[i] = bits(v);
  });
  return { ...(await harness.put(new Uint32Array(words.buffer))), f16: true };
}

test('copies take scratch for what they copy, up to 64 MiB', () => {
  const values = (layout: Layout, m: number, n: number, k: number, stack = 1) =>
    scratchValues('subgroup8', { layout, m, n, k, output: 'store', stack });
  expect(values('NT', 33, 260, 67)).toBe(67 * 36);
  expect(values('NN', 33, 513, 67)).toBe(67 * 36);
  // With many rows, also of a stack, both are transposed. The second copy begins at a multiple of 64.
  expect(values('NT', 513, 260, 67)).toBe(64 * Math.ceil((67 * 516) / 64) + 67 * 260);
  expect(values('NT', 256, 260, 68, 2)).toBe(68 * 512 + 68 * 260);
  // Rows that collide are always copied: transposed, or spaced by 16 values.
  expect(values('NN', 33, 260, 512)).toBe(512 * 36);
  expect(values('NT', 256, 260, 512)).toBe(512 * 256 + 512 * 260);
  expect(values('NT', 33, 260, 512)).toBe(512 * 36 + 260 * 528);
  // No copy: few columns, few rows, another layout.
  expect(values('NN', 33, 255, 512)).toBe(0);
  expect(values('NT', 33, 255, 67)).toBe(0);
  expect(values('NT', 16, 260, 512)).toBe(0);
  expect(values('NN', 33, 260, 768)).toBe(0);
  expect(values('TN', 512, 512, 512)).toBe(0);
  // Beyond 64 MiB A is not transposed, and B is not copied.
  expect(values('NN', 32769, 512, 512)).toBe(32769 * 528);
  expect(values('NT', 1024, 32769, 512)).toBe(512 * 1024);
});
