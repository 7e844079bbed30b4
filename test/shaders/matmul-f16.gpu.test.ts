import { beforeAll, expect, test } from 'vitest';
import { DispatchList } from '../../src/gpu/list.js';
import { slice } from '../../src/gpu/view.js';
import { addMatmul } from '../../src/model/matmul.js';
import { type Layout, MATMUL_KERNELS } from '../../src/model/matmul-kernels.js';
import { always, type MatmulVariant, matmulKernel } from '../../src/model/matmul-plan.js';
import { GpuHarness, noise } from '../gpu/harness.js';
import { agree } from '../reference/agree.js';
import { slowTest } from '../slow.js';

/** Half of the distance from 1 to the next float16. */
const HALF_STEP = 2 ** -11;

let harness: GpuHarness;
let has: boolean;
beforeAll(async () => {
  harness = await GpuHarness.open();
  has = harness.gpu.has('shader-f16');
  if (!has) console.warn('products of float16 are not tested: this adapter has no shader-f16');
});

/** The value of a float16. */
function fromF16(bits: number): number {
  const [sign, exponent, mantissa] = [bits >> 15 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  if (exponent === 31) return mantissa ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (exponent === 0 ? mantissa * 2 ** -24 : (1024 + mantissa) * 2 ** (exponent - 25));
}

/** The float16 copy of `values` that products read. */
async function toF16(values: Float32Array) {
  const source = await harness.put(values);
  const destination = await harness.gpu.buffer('f16', values.length, true);
  const groups: [number] = [Math.ceil(values.length / 256)];
  const constants = { N: values.length };
  const bindings = { source, destination };
  await harness.run({ shader: 'to_f16', entry: 'convert', constants, defines: ['f16'], bindings, groups });
  return slice(destination, 0, values.length);
}

slowTest.each(['NN', 'NT', 'TN'] as Layout[])(
  'products of float16 agree with float64, stored as float32 and as float16: %s',
  async (layout) => {
    if (!has) return;
    const [m, n, k] = [35, 44, 52];
    const [aValues, bValues] = [noise(m * k, 1), noise(k * n, 2)];
    const want = new Float64Array(m * n);
    for (let r = 0; r < m; r++)
      for (let c = 0; c < n; c++)
        for (let i = 0; i < k; i++)
          want[r * n + c] +=
            aValues[layout === 'TN' ? i * m + r : r * k + i] * bValues[layout === 'NT' ? c * k + i : i * n + c];
    const operands = {
      ...{ layout, m, n, k, a: await toF16(aValues), b: await toF16(bValues) },
      ...{ scratch: await harness.zeros(2 ** 18), lda: layout === 'TN' ? m : k, ldb: layout === 'NT' ? k : n },
    };
    for (const variant of Object.keys(MATMUL_KERNELS) as MatmulVariant[]) {
      if (![undefined, harness.gpu.adapter.subgroupSize].includes(matmulKernel(variant).subgroupSize)) continue;
      const c = await harness.zeros(m * n);
      const rounded = await harness.gpu.buffer('c', m * n, true);
      const list = new DispatchList();
      addMatmul(list, always(variant), { ...operands, output: { kind: 'store', c, ldc: n } });
      addMatmul(list, always(variant), { ...operands, output: { kind: 'store', c: rounded, ldc: n } });
      await list.prepare(harness.kernels);
      list.submit(harness.gpu);
      const got = await harness.floats(c);
      // Two operands, each rounded once.
      agree(got, want, 2 * HALF_STEP, `${variant} ${layout}`);
      expect(got.some((v, i) => Math.abs(v - want[i]) > 1e-5)).toBe(true);
      const words = new Uint16Array(await harness.gpu.read(slice(rounded, 0, m * n)));
      agree(Float64Array.from(words, fromF16), got, HALF_STEP, `${variant} ${layout}, stored as float16`);
    }
  },
);

test('a copy makes NaN of what float16 does not hold', async () => {
  if (!has) return;
  const view = await toF16(Float32Array.of(65504, 65505, -1e30, Number.NaN));
  const words = [...new Uint16Array(await harness.gpu.read(view))];
  expect(words[0]).toBe(0x7bff);
  for (const word of words.slice(1)) expect(fromF16(word)).toBeNaN();
});
