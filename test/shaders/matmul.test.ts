import { beforeAll, describe, expect, it } from 'vitest';
import { slice, type View } from '../../src/gpu/device.js';
import { DispatchList } from '../../src/gpu/list.js';
import {
  addMatmul,
  defaultMatmulVariant,
  type Layout,
  type MatmulArguments,
  type MatmulVariant,
} from '../../src/model/matmul.js';
import { threefry } from '../../src/random.js';
import { Bench, noise } from '../gpu/harness.js';
import { agree } from '../reference/agree.js';

let bench: Bench;
let variants: MatmulVariant[];
beforeAll(async () => {
  bench = await Bench.open();
  const runsSubgroup8 = bench.gpu.adapter.subgroupSize === 8;
  if (!runsSubgroup8) console.warn('matmul: subgroup8 is not tested, the subgroups of this adapter have not 8 lanes');
  variants = runsSubgroup8 ? ['subgroup8', 'tile64'] : ['tile64'];
});

const LAYOUTS: readonly Layout[] = ['NN', 'NT', 'TN'];
const FILLER = 777;

/** A [rows, columns] matrix of float64 values. */
interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly values: Float32Array;
}

function random(rows: number, columns: number, seed: number): Matrix {
  return { rows, columns, values: noise(rows * columns, seed) };
}

function filled(rows: number, columns: number, values: ArrayLike<number>): Matrix {
  return { rows, columns, values: Float32Array.from(values) };
}

/** The operands of a product as they lie in memory, and the product in float64. */
interface Problem {
  readonly layout: Layout;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly a: Matrix;
  readonly b: Matrix;
  readonly product: Float64Array;
}

function problem(layout: Layout, m: number, n: number, k: number, seed = 1): Problem {
  const a = layout === 'TN' ? random(k, m, seed) : random(m, k, seed);
  const b = layout === 'NT' ? random(n, k, seed + 1) : random(k, n, seed + 1);
  const product = new Float64Array(m * n);
  for (let r = 0; r < m; r++)
    for (let c = 0; c < n; c++)
      for (let i = 0; i < k; i++) {
        const x = layout === 'TN' ? a.values[i * m + r] : a.values[r * k + i];
        const y = layout === 'NT' ? b.values[c * k + i] : b.values[i * n + c];
        product[r * n + c] += x * y;
      }
  return { layout, m, n, k, a, b, product };
}

/** Uploads with leading dimension `ld` behind 64 unused values; whatever is not the matrix is `filler`. */
async function put({ rows, columns, values }: Matrix, ld = columns, filler = Number.NaN): Promise<View> {
  const data = new Float32Array(64 + rows * ld).fill(filler);
  for (let r = 0; r < rows; r++) data.set(values.subarray(r * columns, (r + 1) * columns), 64 + r * ld);
  const whole = await bench.put(data);
  return slice(whole, 64, (rows - 1) * ld + columns);
}

/** The matrix out of `view`, and whether all around it is still `filler`. */
async function get(view: View, rows: number, columns: number, ld = columns): Promise<Float32Array> {
  const all = await bench.floats({ buffer: view.buffer, offset: 0, size: 256 + rows * ld * 4 });
  const values = new Float32Array(rows * columns);
  for (let r = 0; r < rows; r++) {
    values.set(all.subarray(64 + r * ld, 64 + r * ld + columns), r * columns);
    all.fill(FILLER, 64 + r * ld, 64 + r * ld + columns);
  }
  expect(all.every((v) => v === FILLER)).toBe(true);
  return values;
}

async function run(variant: MatmulVariant, ...products: MatmulArguments[]): Promise<void> {
  const list = new DispatchList();
  for (const p of products) addMatmul(list, variant, p);
  await list.prepare(bench.kernels);
  list.submit(bench.gpu);
  await bench.gpu.done();
}

async function operands(p: Problem, pad = 0) {
  const [lda, ldb] = [p.a.columns + pad, p.b.columns + pad];
  const { layout, m, n, k } = p;
  return { layout, m, n, k, a: await put(p.a, lda), lda, b: await put(p.b, ldb), ldb };
}

async function product(variant: MatmulVariant, p: Problem, pad = 0): Promise<Float32Array> {
  const ldc = p.n + pad;
  const c = await put(random(p.m, p.n, 9), ldc, FILLER);
  await run(variant, { ...(await operands(p, pad)), output: { kind: 'store', c, ldc } });
  return get(c, p.m, p.n, ldc);
}

function geluReference(x: number): number {
  return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
}

function geluSlope(x: number): number {
  return (geluReference(x + 1e-5) - geluReference(x - 1e-5)) / 2e-5;
}

function bits(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}

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
  for (const [m, n, k, pad] of shapes)
    for (const layout of LAYOUTS)
      it(`${layout} ${m}x${n}x${k}, rows ${pad} values apart`, async () => {
        const p = problem(layout, m, n, k);
        for (const variant of variants) agree(await product(variant, p, pad), p.product, 1e-6, variant);
      });

  it('widths that are no multiples of 4 under leading dimensions that are', async () => {
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

  it('more tiles than a dimension of a dispatch holds', async () => {
    const n = 64 * 65536 + 1;
    const b = noise(n, 3);
    const [a, c] = [await bench.put([2]), await bench.zeros(n)];
    const bView = await bench.put(b);
    for (const variant of variants) {
      const output = { kind: 'store', c, ldc: n, accumulate: true } as const;
      await run(variant, { layout: 'NN', m: 1, n, k: 1, a, lda: 1, b: bView, ldb: n, output });
    }
    const got = await bench.floats(c);
    expect(got.findIndex((v, i) => v !== 2 * variants.length * b[i])).toBe(-1);
    for (const view of [a, c, bView]) bench.gpu.release(view);
  });
});

describe('epilogues', () => {
  // Widths of every remainder by 4 that takes its own way: vectors, pairs, single values.
  for (const [m, n, k] of [
    [18, 36, 12],
    [35, 34, 9],
    [9, 33, 8],
  ]) {
    const p = problem('NN', m, n, k);
    const bias = random(1, n, 5);
    const other = random(m, n, 6);
    const want = (f: (acc: number, i: number) => number) => Array.from(p.product, (acc, i) => f(acc, i));

    it(`bias, gelu, its gradient and residual, ${m}x${n}`, async () => {
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

    it(`dropout takes its factors from threefry, ${m}x${n}`, async () => {
      const [firstSlot, rowsPerSequence, threshold, scale] = [41, 7, 0x60000000, 1.5];
      const key = await bench.uniform([0x12345678, 0x9abcdef0, firstSlot, threshold, { f32: scale }]);
      const factors = Array.from(p.product, (_, i) => {
        const [row, column] = [Math.floor(i / n), i % n];
        const place = (row % rowsPerSequence) * n + column;
        const words = threefry([0x12345678, 0x9abcdef0], firstSlot + Math.floor(row / rowsPerSequence), place >> 1);
        return words[place & 1] < threshold ? 0 : scale;
      });
      const dropout = { key, rowsPerSequence };
      for (const variant of variants) {
        const [biasView, otherView] = [await put(bias), await put(other)];
        const ops = await operands(p);
        const [c0, c1] = [await put(other, n, FILLER), await put(other, n, FILLER)];
        await run(
          variant,
          { ...ops, output: { kind: 'store', c: c0, ldc: n, dropout } },
          { ...ops, output: { kind: 'store', c: c1, ldc: n, dropout, bias: biasView, residual: otherView } },
        );
        const dropped = await get(c0, m, n);
        agree(
          dropped,
          want((acc, i) => acc * factors[i]),
          1e-6,
          variant,
        );
        expect([...dropped].map((v) => v === 0)).toEqual(factors.map((f) => f === 0));
        agree(
          await get(c1, m, n),
          want((acc, i) => other.values[i] + (acc + bias.values[i % n]) * factors[i]),
          1e-6,
          `${variant} with bias and residual`,
        );
      }
    });
  }

  it('windows of K that accumulate give the bits of one pass', async () => {
    const [m, n, k, cut] = [19, 35, 23, 12];
    for (const layout of LAYOUTS) {
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
        const once = await product(variant, p);
        const c = await put(random(m, n, 9), n, FILLER);
        for (const [from, to] of [
          [0, cut],
          [cut, k],
        ]) {
          const a = part(p.a, layout === 'TN', from, to);
          const b = part(p.b, layout !== 'NT', from, to);
          const output = { kind: 'store', c, ldc: n, accumulate: from > 0 } as const;
          await run(variant, { ...(await operands({ ...p, k: to - from, a, b })), output });
        }
        expect([...bits(await get(c, m, n))], `${variant} ${layout}`).toEqual([...bits(once)]);
      }
    }
  });
});

/** value * 2^40, to nearest even: exact, as a float32 times a power of two is. */
function onGrid(value: number): bigint {
  const scaled = value * 2 ** 40;
  const floor = Math.floor(scaled);
  const rest = scaled - floor;
  return BigInt(floor + (rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? 1 : 0));
}

describe('grid', () => {
  async function gridOf(variant: MatmulVariant, args: Omit<MatmulArguments, 'output'>, start: bigint, ldc: number) {
    const words = (shift: bigint) => new Uint32Array(args.m * ldc).fill(Number((start >> shift) & 0xffffffffn));
    const [low, high] = [await bench.put(words(0n)), await bench.put(words(32n))];
    const status = await bench.put(new Uint32Array([0]));
    await run(variant, { ...args, output: { kind: 'grid', low, high, status, ldc } });
    const [l, h] = [await bench.words(low), await bench.words(high)];
    const sums = Array.from(l, (_, i) => BigInt.asIntN(64, (BigInt(h[i]) << 32n) | BigInt(l[i])));
    return { sums, status: (await bench.words(status))[0] };
  }

  it('adds the exact integers of the stored result', async () => {
    const start = -(2n ** 38n) - 12345n;
    for (const layout of LAYOUTS)
      for (const variant of variants)
        for (const [m, n, k] of [
          [37, 35, 9],
          [16, 64, 8],
        ]) {
          const p = problem(layout, m, n, k);
          const stored = await product(variant, p);
          const ldc = n + 1;
          const { sums, status } = await gridOf(variant, await operands(p), start, ldc);
          const want = sums.map(
            (_, i) => start + (i % ldc < n ? onGrid(stored[Math.floor(i / ldc) * n + (i % ldc)]) : 0n),
          );
          expect(sums, `${variant} ${layout}`).toEqual(want);
          expect(status).toBe(0);
        }
  });

  it('rounds ties to even and reports NaN, Inf and 2^12', async () => {
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
        const [a, b] = [await bench.put([1]), await bench.put(row)];
        const args = { layout: 'NN', m: 1, n: 12, k: 1, a, lda: 1, b, ldb: 12 } as const;
        const { sums, status } = await gridOf(variant, args, 0n, 12);
        expect(status, `${variant} ${values}`).toBe(wrong);
        if (wrong === 0) expect(sums).toEqual([...row].map(onGrid));
      }
  });
});

describe('refusals', () => {
  it('sizes, leading dimensions and views that do not fit', async () => {
    const view = await bench.put(new Float32Array(16));
    const args = { layout: 'NN', m: 4, n: 4, k: 4, a: view, lda: 4, b: view, ldb: 4 } as const;
    const output = { kind: 'store', c: view, ldc: 4 } as const;
    const add = (more: Partial<MatmulArguments>) => () =>
      addMatmul(new DispatchList(), 'tile64', { ...args, output, ...more });
    expect(add({})).not.toThrow();
    expect(add({ m: 0 })).toThrow(RangeError);
    expect(add({ m: 5 })).toThrow(RangeError);
    expect(add({ lda: 3 })).toThrow(RangeError);
    expect(add({ output: { ...output, ldc: 5 } })).toThrow(RangeError);
    expect(add({ output: { ...output, gelu: view, residual: view } })).toThrow(RangeError);
  });

  it('software with subgroups of 8 gets subgroup8, everything else tile64', () => {
    const adapter = { name: '', vendor: '', architecture: '', driver: '' };
    expect(defaultMatmulVariant({ ...adapter, software: true, subgroupSize: 8 })).toBe('subgroup8');
    expect(defaultMatmulVariant({ ...adapter, software: true, subgroupSize: 4 })).toBe('tile64');
    expect(defaultMatmulVariant({ ...adapter, software: false, subgroupSize: 8 })).toBe('tile64');
  });
});
