import { expect } from 'vitest';
import { type Dispatch, DispatchList } from '../../src/gpu/list.js';
import { slice, type View } from '../../src/gpu/view.js';
import { portably } from '../../src/model/arithmetic.js';
import { addMatmul, type MatmulArguments } from '../../src/model/matmul.js';
import { type Layout, MATMUL_KERNELS } from '../../src/model/matmul-kernels.js';
import { always, type MatmulVariant, matmulKernel, scratchValues } from '../../src/model/matmul-plan.js';
import { GpuHarness, noise } from '../gpu/harness.js';

export let harness: GpuHarness;
/** The kernels of default plans that run on this adapter. They are tested most. */
export let variants: MatmulVariant[];

/** Whether this adapter has the subgroups that a variant needs. */
export function runs(variant: MatmulVariant): boolean {
  return [undefined, harness.gpu.adapter.subgroupSize].includes(matmulKernel(variant).subgroupSize);
}

/** For beforeAll. */
export async function openHarness(): Promise<void> {
  harness = await GpuHarness.open();
  const named = Object.keys(MATMUL_KERNELS).filter((name) => /^(subgroup\d+|tile64x64)$/.test(name)) as MatmulVariant[];
  variants = named.filter(runs);
  for (const variant of named)
    if (!runs(variant)) console.warn(`matmul: ${variant} is not tested, this adapter's subgroups are not of its size`);
}

export const LAYOUTS: readonly Layout[] = ['NN', 'NT', 'TN'];
export const FILLER = 777;

/** A [rows, columns] matrix of float64 values. */
export interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly values: Float32Array;
}

export function random(rows: number, columns: number, seed: number): Matrix {
  return { rows, columns, values: noise(rows * columns, seed) };
}

export function filled(rows: number, columns: number, values: ArrayLike<number>): Matrix {
  return { rows, columns, values: Float32Array.from(values) };
}

/** The operands of a product as they lie in memory, and the product in float64. */
export interface Problem {
  readonly layout: Layout;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly a: Matrix;
  readonly b: Matrix;
  readonly product: Float64Array;
}

export function problem(layout: Layout, m: number, n: number, k: number, seed = 1): Problem {
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

/** Uploads a matrix with leading dimension `ld` behind 64 unused values; everything around it is `filler`. */
export async function put({ rows, columns, values }: Matrix, ld = columns, filler = Number.NaN): Promise<View> {
  const data = new Float32Array(64 + rows * ld).fill(filler);
  for (let r = 0; r < rows; r++) data.set(values.subarray(r * columns, (r + 1) * columns), 64 + r * ld);
  const whole = await harness.put(data);
  return slice(whole, 64, (rows - 1) * ld + columns);
}

/** Reads the matrix in `view`, and expects everything around it to be FILLER still. */
export async function get(view: View, rows: number, columns: number, ld = columns): Promise<Float32Array> {
  const all = await harness.floats({ buffer: view.buffer, offset: 0, size: 256 + rows * ld * 4 });
  const values = new Float32Array(rows * columns);
  for (let r = 0; r < rows; r++) {
    values.set(all.subarray(64 + r * ld, 64 + r * ld + columns), r * columns);
    all.fill(FILLER, 64 + r * ld, 64 + r * ld + columns);
  }
  expect(all.every((v) => v === FILLER)).toBe(true);
  return values;
}

export async function run(variant: MatmulVariant, ...products: MatmulArguments[]): Promise<void> {
  await runInto(new DispatchList(), variant, ...products);
}

/** Like `run`, in portable arithmetic. */
export async function runPortably(variant: MatmulVariant, ...products: MatmulArguments[]): Promise<void> {
  await runInto(new DispatchList(), variant, ...products.map((p) => ({ ...p, portable: true })));
}

async function runInto(list: DispatchList, variant: MatmulVariant, ...products: MatmulArguments[]): Promise<void> {
  for (const p of products) {
    const values = scratchValues(variant, { ...p, output: p.output.kind });
    const scratch = values > 0 ? await harness.zeros(values) : undefined;
    const target = p.portable ? { add: (dispatch: Dispatch) => list.add(portably(dispatch)) } : list;
    addMatmul(target, always(variant), { ...p, scratch });
  }
  await list.prepare(harness.kernels);
  list.submit(harness.gpu);
  await harness.gpu.done();
}

export async function operands(p: Problem, pad = 0) {
  const [lda, ldb] = [p.a.columns + pad, p.b.columns + pad];
  const { layout, m, n, k } = p;
  return { layout, m, n, k, a: await put(p.a, lda), lda, b: await put(p.b, ldb), ldb };
}

export async function product(variant: MatmulVariant, p: Problem, pad = 0): Promise<Float32Array> {
  const ldc = p.n + pad;
  const c = await put(random(p.m, p.n, 9), ldc, FILLER);
  await run(variant, { ...(await operands(p, pad)), output: { kind: 'store', c, ldc } });
  return get(c, p.m, p.n, ldc);
}
