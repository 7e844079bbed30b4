import type { KernelCache } from '../gpu/kernel.js';
import { DispatchList } from '../gpu/list.js';
import { addMatmul } from '../model/matmul.js';
import type { Plan } from '../model/plan.js';

/** The largest error of a small product with a bias by the plan's kernel, compared with the CPU's result. */
export async function wrongestProduct(kernels: KernelCache, plan: Plan): Promise<number> {
  const { gpu } = kernels;
  const [m, n, k] = [33, 40, 36];
  const value = (i: number, modulus: number) => ((i * 7) % modulus) / modulus - 0.5;
  const a = Float32Array.from({ length: m * k }, (_, i) => value(i, 31));
  const b = Float32Array.from({ length: k * n }, (_, i) => value(i, 37));
  const bias = Float32Array.from({ length: n }, (_, i) => value(i, 11));
  const put = async (data: Float32Array) => {
    const view = await gpu.buffer('self-test', data.length);
    gpu.write(view, data);
    return view;
  };
  const views = { a: await put(a), b: await put(b), bias: await put(bias), c: await put(new Float32Array(m * n)) };
  const list = new DispatchList();
  addMatmul(list, plan.matmul, {
    layout: 'NN',
    m,
    n,
    k,
    a: views.a,
    lda: k,
    b: views.b,
    ldb: n,
    output: { kind: 'store', c: views.c, ldc: n, bias: views.bias },
  });
  await list.prepare(kernels);
  list.submit(gpu);
  const got = new Float32Array(await gpu.read(views.c));
  for (const view of Object.values(views)) gpu.release(view);
  let worst = 0;
  for (let row = 0; row < m; row++) {
    for (let column = 0; column < n; column++) {
      let want = bias[column];
      for (let i = 0; i < k; i++) want += a[row * k + i] * b[i * n + column];
      const error = Math.abs(got[row * n + column] - want);
      worst = error > worst || Number.isNaN(error) ? error : worst;
    }
  }
  return worst;
}
