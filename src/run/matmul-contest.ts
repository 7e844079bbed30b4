import type { AdapterDescription, Gpu } from '../gpu/device.js';
import type { KernelCache } from '../gpu/kernel.js';
import { DispatchList } from '../gpu/list.js';
import { slice, type View } from '../gpu/view.js';
import { launchInto } from '../model/graph.js';
import type { MatmulArguments } from '../model/matmul.js';
import { MATMUL_KERNELS, type ProductShape, rowsOf } from '../model/matmul-kernels.js';
import {
  always,
  ENOUGH_TILES,
  type MatmulVariant,
  matmulKernel,
  scratchValues,
  shapeClass,
  splitOf,
  variantFor,
} from '../model/matmul-plan.js';
import { missingFor, type Plan } from '../model/plan.js';
import type { Product } from '../model/products.js';
import type { Contest, Examined } from './contest.js';

/**
 * The candidates for a product on this adapter, the most promising first, without `base`. Without `anyBits` only those
 * that can have its bits, which in portable arithmetic are all; without `longShots` only those that are likely to be fast.
 */
export function matmulCandidates(
  adapter: AdapterDescription,
  product: Product,
  base: MatmulVariant,
  anyBits: boolean,
  longShots = true,
): MatmulVariant[] {
  // In portable arithmetic all kernels have the same bits.
  const anyOrder = anyBits || product.portable === true;
  const isSubgroup = (v: MatmulVariant) => matmulKernel(v).subgroupSize !== undefined;
  // The same split of K gives the same bits.
  const isFitted = base.endsWith('/kfit');
  const all = (Object.keys(MATMUL_KERNELS) as MatmulVariant[])
    .map((v) => (isFitted && matmulKernel(v).canSplitK ? (`${v}/kfit` as MatmulVariant) : v))
    .filter((v) => v !== 'plain' && v !== base);
  const runs = all.filter((variant) => {
    const { subgroupSize } = matmulKernel(variant);
    // On software adapters tiles are far slower and take long to compile: one of each kind is enough.
    if (adapter.software && subgroupSize === undefined)
      return anyOrder && (longShots || !hasLongShots(adapter)) && /^(tile64x64|register4x4)(\/kfit)?$/.test(variant);
    return subgroupSize === undefined || subgroupSize === adapter.subgroupSize;
  });
  const isSplit = splitOf(base, product).splitK > 1;
  // All products of a class share a winner, and some may be split and some not: kernels with the same split serve all.
  if (!anyOrder && isFitted) return runs.filter((v) => matmulKernel(v).canSplitK);
  if (!anyOrder) return isSplit ? [] : runs;
  if (adapter.software) return runs;
  const tiles = Math.ceil(rowsOf(product) / 64) * Math.ceil(product.n / 64);
  // Subgroup kernels are made for software. Larger tiles load less. Stacked weight gradients are not split.
  if (tiles > ENOUGH_TILES || (product.layout === 'TN' && (product.stack ?? 1) > 1)) return runs.reverse();
  const split: MatmulVariant[] = ['tile32x32/k4', 'tile64x64/k2', 'tile64x64/k4', 'tile64x64/k8'];
  return [
    ...(isSplit ? (['tile64x64'] as const) : []),
    ...split.filter((v) => v !== base && splitOf(v, product).splitK > 1),
    ...runs.filter((v) => !isSubgroup(v)),
    ...runs.filter(isSubgroup),
  ];
}

/** Whether tiles are long shots: on software that has subgroup kernels. */
export function hasLongShots({ software, subgroupSize }: AdapterDescription): boolean {
  return (
    software &&
    subgroupSize !== undefined &&
    Object.values(MATMUL_KERNELS).some((kernel) => kernel.subgroupSize === subgroupSize)
  );
}

/** The product with the most work of each shape class; the class with the most work comes first. */
export function matmulClasses(products: readonly Product[]): Product[] {
  const work = (product: Product) => flopsOf(product) * product.count;
  const classes = new Map<string, { product: Product; work: number }>();
  for (const product of products) {
    const name = shapeClass(product);
    const known = classes.get(name);
    const largest = known && work(known.product) >= work(product) ? known.product : product;
    classes.set(name, { product: largest, work: (known?.work ?? 0) + work(product) });
  }
  return [...classes.values()].sort((a, b) => b.work - a.work).map(({ product }) => product);
}

/** Floating-point operations of a product, summed over its stack. */
export function flopsOf({ m, n, k, stack = 1 }: ProductShape): number {
  return 2 * m * n * k * stack;
}

/** `plan` with other variants for some shape classes. */
export function withVariants(plan: Plan, variants: ReadonlyMap<string, MatmulVariant>): Plan {
  const kept = plan.matmul.filter(([pattern]) => !variants.has(pattern));
  return { ...plan, matmul: [...variants, ...kept] };
}

/** The plain kernel computes at least this many rows of the output, and more up to CHECKED_FLOPS. */
const CHECKED_ROWS = 16;
const CHECKED_FLOPS = 2 ** 28;

/**
 * Largest allowed |error| / largest |value|: float32 sums of about 10^4 products stay far below, a wrong kernel is far
 * above.
 */
const TOLERANCE = 1e-4;

/** A sample lasts about this long, so that the cost of its submission hardly counts. */
const SAMPLE_MS = 5;
const MOST_RUNS = 200;

/** A contest of kernels for one matrix product. The caller closes it. */
export class MatmulContest implements Contest {
  readonly name: string;
  #wanted: Float64Array | undefined;
  #baseWords: Uint32Array | undefined;
  readonly #lists = new Map<string, { list: DispatchList; runs: number }>();

  private constructor(
    readonly kernels: KernelCache,
    readonly product: Product,
    readonly base: MatmulVariant,
    readonly candidates: readonly MatmulVariant[],
    private readonly views: readonly View[],
    private readonly a: View,
    private readonly b: View,
    private readonly output: MatmulArguments['output'],
    private readonly scratch: View | undefined,
  ) {
    this.name = shapeClass(product);
  }

  static async open(
    kernels: KernelCache,
    plan: Plan,
    product: Product,
    anyBits: boolean,
    longShots = true,
  ): Promise<MatmulContest> {
    const { gpu } = kernels;
    const base = variantFor(plan.matmul, product);
    const candidates = matmulCandidates(gpu.adapter, product, base, anyBits, longShots).filter(
      (v) => missingFor({ ...plan, matmul: always(v), attention: 'tile' }, gpu.adapter) === undefined,
    );
    const { layout, n, k, stack = 1, lda, ldb, ldc, output: kind } = product;
    const rows = rowsOf(product);
    const views: View[] = [];
    const buffer = async (label: string, values: number) => {
      const view = await gpu.buffer(`tuning ${label}`, values);
      views.push(view);
      return { ...view, size: 4 * values };
    };
    const a = await buffer('a', (layout === 'TN' ? stack * k : rows) * lda);
    const b = await buffer('b', { NN: k, NT: n, TN: stack * k }[layout] * ldb);
    gpu.write(a, generated(a.size / 4, 1));
    gpu.write(b, generated(b.size / 4, 2));
    const output =
      kind === 'store'
        ? { kind, c: await buffer('c', rows * ldc), ldc }
        : {
            kind,
            low: await buffer('low', rows * ldc),
            high: await buffer('high', rows * ldc),
            status: await buffer('status', 1),
            ldc,
            accumulate: true,
          };
    const values = [base, ...candidates].reduce((most, v) => Math.max(most, scratchValues(v, product)), 0);
    const scratch = values > 0 ? await buffer('scratch', values) : undefined;
    return new MatmulContest(kernels, product, base, candidates, views, a, b, output, scratch);
  }

  /** The variant of that name. */
  variant(name: string): MatmulVariant {
    return [this.base, ...this.candidates].find((v) => v === name) ?? this.base;
  }

  async examine(name: string): Promise<Examined> {
    this.#wanted ??= await this.#plain();
    const words = await this.#compute(this.variant(name), rowsOf(this.product));
    // The first dispatch compiled; this one gives the number of runs per sample.
    const entry = this.#lists.get(name);
    if (entry) {
      entry.runs = 1;
      entry.runs = Math.max(1, Math.min(MOST_RUNS, Math.ceil(SAMPLE_MS / (await this.time(name)))));
    }
    const isBase = name === this.base;
    if (isBase) this.#baseWords = words;
    const equal = isBase || (this.#baseWords?.every((word, i) => word === words[i]) ?? false);
    const got = this.#values(words);
    let error = relativeError(got, this.#wanted);
    // The rows that the plain kernel did not compute are compared with the base's.
    if (!equal && this.#baseWords) error = Math.max(error, relativeError(got, this.#values(this.#baseWords)));
    return error < TOLERANCE ? { equal } : { equal: false, wrong: `its output is wrong by ${error.toPrecision(2)}` };
  }

  async time(name: string): Promise<number> {
    const { gpu } = this.kernels;
    const { list, runs } = this.#lists.get(name) ?? { list: new DispatchList(), runs: 1 };
    // The end of a wait is noticed up to a millisecond late, and a large GPU computes many products in that time.
    if (gpu.has('timestamp-query') && !gpu.adapter.software) {
      const milliseconds = await list.time(gpu, runs);
      // WebGPU's timestamps may decrease.
      if (milliseconds > 0) return milliseconds;
    }
    const start = performance.now();
    const encoder = gpu.device.createCommandEncoder();
    for (let i = 0; i < runs; i++) list.encode(encoder);
    gpu.device.queue.submit([encoder.finish()]);
    await gpu.done();
    return (performance.now() - start) / runs;
  }

  close(): void {
    for (const view of this.views) this.kernels.gpu.release(view);
  }

  /** The first rows of the output, by the plain kernel. */
  async #plain(): Promise<Float64Array> {
    const all = rowsOf(this.product);
    const rows = Math.min(all, Math.max(CHECKED_ROWS, Math.floor(CHECKED_FLOPS / (flopsOf(this.product) / all))));
    return this.#values(await this.#compute('plain', rows));
  }

  /** The first `rows` rows of the output, as words; fixed point: all low words, then all high words. */
  async #compute(variant: MatmulVariant, rows: number): Promise<Uint32Array> {
    const { gpu } = this.kernels;
    const { product } = this;
    const { layout, n, k, lda, ldb, portable = false } = product;
    // Rows of a stack of NN or NT products equal those of one product with as many rows.
    const isWhole = rows === rowsOf(product);
    const stack = isWhole || layout === 'TN' ? product.stack : 1;
    const m = isWhole ? product.m : rows;
    const list = new DispatchList();
    const { a, b, output, scratch } = this;
    const launches = launchInto(list, { matmul: always(variant) }, portable, scratch);
    launches.matmul({ layout, m, n, k, stack, a, lda, b, ldb, output });
    await list.prepare(this.kernels);
    const outputs = output.kind === 'store' ? [output.c] : [output.low, output.high, output.status];
    clear(gpu, outputs);
    list.submit(gpu);
    const arrays: Uint32Array[] = [];
    for (const view of outputs.slice(0, 2))
      arrays.push(new Uint32Array(await gpu.read(slice(view, 0, rows * output.ldc))));
    if (isWhole) this.#lists.set(variant, { list, runs: 1 });
    const words = new Uint32Array(arrays.reduce((sum, { length }) => sum + length, 0));
    words.set(arrays[0]);
    if (arrays.length > 1) words.set(arrays[1], arrays[0].length);
    return words;
  }

  #values(words: Uint32Array): Float64Array {
    if (this.output.kind === 'store') return new Float64Array(new Float32Array(words.buffer));
    const values = new Float64Array(words.length / 2);
    for (let i = 0; i < values.length; i++) values[i] = (words[values.length + i] | 0) * 2 ** -8 + words[i] * 2 ** -40;
    return values;
  }
}

/** The largest |got - want| over the largest |want|, for the indices of `want`; infinite where there is a NaN. */
function relativeError(got: Float64Array, want: Float64Array): number {
  let largest = 1e-30;
  let error = 0;
  for (let i = 0; i < want.length; i++) {
    largest = Math.max(largest, Math.abs(want[i]));
    const distance = Math.abs(got[i] - want[i]);
    if (Number.isNaN(distance)) return Number.POSITIVE_INFINITY;
    if (distance > error) error = distance;
  }
  return error / largest;
}

function clear(gpu: Gpu, views: readonly View[]): void {
  const encoder = gpu.device.createCommandEncoder();
  for (const { buffer } of views) encoder.clearBuffer(buffer);
  gpu.device.queue.submit([encoder.finish()]);
}

/** Values in [-1, 1) that are cheap to make and do not repeat within a row. */
function generated(count: number, seed: number): Float32Array {
  const values = new Float32Array(count);
  let state = Math.imul(seed, 0x9e3779b9) | 1;
  for (let i = 0; i < count; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    values[i] = state / 2 ** 31;
  }
  return values;
}
