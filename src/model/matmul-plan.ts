import type { AdapterDescription } from '../gpu/device.js';

/** NN: C[M,N] = A[M,K] B[K,N]; NT: C = A[M,K] B[N,K]^T; TN: C = A[K,M]^T B[K,N]. All row-major. */
export type Layout = 'NN' | 'NT' | 'TN';

/** What a choice of kernel depends on. */
export interface ProductShape {
  readonly layout: Layout;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly output: 'store' | 'grid';
}

/** A kernel for matrix products: one shader and how it cuts C into tiles, a workgroup each. */
export interface MatmulKernel {
  /** File in `shaders/` without `.wgsl`; its entry points are those of shaders/epilogue.wgsl. */
  readonly shader: string;
  /** Rows and columns of a tile in a product of `m` rows. */
  readonly tile: (m: number) => readonly [rows: number, columns: number];
  /** Override constants besides those that every product has; TILE_ROWS is the first of `tile`. */
  readonly constants?: (tileRows: number) => Readonly<Record<string, number>>;
  /** The subgroup size that it needs, which must be the adapter's only one. */
  readonly subgroupSize?: number;
}

/** For software adapters, whose subgroups have `lanes` lanes. */
function subgroupKernel(lanes: number): MatmulKernel {
  return {
    shader: 'matmul_subgroup',
    // More rows a tile are faster, but a product of few rows would compute what nobody stores.
    tile: (m) => [m > 16 ? 32 : m > 8 ? 16 : 8, 4 * lanes],
    constants: (ROWS) => ({ LANES: lanes, ROWS }),
    subgroupSize: lanes,
  };
}

/** Every kernel that a plan can name. */
export const MATMUL_KERNELS = {
  subgroup4: subgroupKernel(4),
  subgroup8: subgroupKernel(8),
  subgroup16: subgroupKernel(16),
  tile64x64: { shader: 'matmul_tile64', tile: () => [64, 64] },
} as const satisfies Record<string, MatmulKernel>;

export type MatmulVariant = keyof typeof MATMUL_KERNELS;

export function isMatmulVariant(name: string): name is MatmulVariant {
  return Object.hasOwn(MATMUL_KERNELS, name);
}

export function matmulKernel(variant: MatmulVariant): MatmulKernel {
  return MATMUL_KERNELS[variant];
}

/**
 * Which variant computes which products: the first rule whose pattern fits; the last pattern is `*`, which fits all.
 * Others are four words, layout, rows, columns and terms, output, as `shapeClass` gives them, each of which may be `*`:
 * `TN 1024x1024x* grid`.
 */
export type MatmulTable = readonly (readonly [pattern: string, variant: MatmulVariant])[];

export const EVERY_PRODUCT = '*';

/** What the pattern of a rule may look like. */
export const MATMUL_PATTERN = /^(\*|(NN|NT|TN|\*) (\d+|\*)x(\d+|\*)x(\d+|\*) (store|grid|\*))$/;

/**
 * The class of a shape, `NN 512x4096x1024 store`: layout, M x N x K, each rounded up to a power of two, and what becomes
 * of the result. Products of a class share a variant.
 */
export function shapeClass({ layout, m, n, k, output }: ProductShape): string {
  return `${layout} ${[m, n, k].map((size) => 2 ** Math.ceil(Math.log2(size))).join('x')} ${output}`;
}

/** Throws RangeError where no rule fits, which a table that ends with `*` never does. */
export function variantFor(table: MatmulTable, shape: ProductShape): MatmulVariant {
  const words = shapeClass(shape).split(/[ x]/);
  const fits = (pattern: string) =>
    pattern === EVERY_PRODUCT || pattern.split(/[ x]/).every((word, i) => word === '*' || word === words[i]);
  const rule = table.find(([pattern]) => fits(pattern));
  if (rule === undefined) throw new RangeError(`the plan has no kernel for ${words.join(' ')}`);
  return rule[1];
}

/** A table of one rule. */
export function always(variant: MatmulVariant): MatmulTable {
  return [[EVERY_PRODUCT, variant]];
}

/** The table of an adapter of this kind. */
export function defaultMatmulTable(adapter: AdapterDescription): MatmulTable {
  const variant = `subgroup${adapter.subgroupSize}`;
  return always(adapter.software && isMatmulVariant(variant) ? variant : 'tile64x64');
}

/** The variants of a table in a few words. */
export function describeTable(table: MatmulTable): string {
  return [...new Set(table.map(([, variant]) => variant).reverse())].join(', ');
}
