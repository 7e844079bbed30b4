import type { AdapterDescription } from '../gpu/device.js';
import { alignValues } from '../gpu/view.js';
import {
  type KernelName,
  type Layout,
  MATMUL_KERNELS,
  type MatmulKernel,
  type ProductShape,
  rowsOf,
  SEGMENT,
  vectors,
} from './matmul-kernels.js';

/** The numbers of parts that K can be split into. `fit`: as many as fill a GPU (`fittingSplitK`). */
const SPLIT_K = [2, 4, 8, 16, 32, 'fit'] as const;

type SplitVariant = KernelName | `${KernelName}/k${(typeof SPLIT_K)[number]}`;

/**
 * The name of a kernel, with `/k4` appended for split-K in four parts (`tile64x64/k4`), and with `/kept` for sums that no
 * compiler reorders (KEEP_SUMS in shaders/matmul_operands.wgsl).
 */
export type MatmulVariant = SplitVariant | `${SplitVariant}/kept`;

interface Parsed {
  readonly kernel: MatmulKernel;
  readonly splitK: number | 'fit';
  readonly keepsSums: boolean;
}

function parse(name: string): Parsed | undefined {
  const [, base, splitK, kept] = /^(.*?)(?:\/k(\d+|fit))?(\/kept)?$/.exec(name) ?? [];
  if (!Object.hasOwn(MATMUL_KERNELS, base)) return undefined;
  const kernel = MATMUL_KERNELS[base as KernelName];
  const keepsSums = kept !== undefined;
  if (splitK === undefined) return { kernel, splitK: 1, keepsSums };
  const known = kernel.canSplitK ? SPLIT_K.find((count) => String(count) === splitK) : undefined;
  return known === undefined ? undefined : { kernel, splitK: known, keepsSums };
}

export function isMatmulVariant(name: string): name is MatmulVariant {
  return parse(name) !== undefined;
}

function parsed(variant: MatmulVariant) {
  const result = parse(variant);
  if (result === undefined) throw new RangeError(`there is no matrix product kernel ${variant}`);
  return result;
}

export function matmulKernel(variant: MatmulVariant): MatmulKernel {
  return parsed(variant).kernel;
}

/** Whether the variant protects its sums from being reordered. */
export function keepsSums(variant: MatmulVariant): boolean {
  return parsed(variant).keepsSums;
}

/** Largest number of values of scratch for the partial products of one micro-batch: 64 MiB. */
const SPLIT_VALUES = 2 ** 24;

/** A part of K has a multiple of this many terms. Every kernel's step divides it, so all kernels split K alike. */
const SPLIT_STEP = 16;

/** Tiles of 64 x 64 that fill a large GPU. */
export const ENOUGH_TILES = 512;

/** Parts of fewer terms gain less than adding them costs. */
const FEWEST_TERMS = 128;

/**
 * The number of parts of K for `fit`, with every kernel: as many as a large GPU needs to be full and as K has enough terms
 * for. Below 2, K is not split. TN (weight gradients) is never split, because a stack of TN products cannot be.
 */
function fittingSplitK({ layout, m, n, k }: ProductShape): number {
  if (layout === 'TN') return 1;
  const tiles = Math.ceil(m / 64) * Math.ceil(n / 64);
  return Math.min(Math.floor(ENOUGH_TILES / tiles), Math.floor(k / FEWEST_TERMS));
}

/** How K is split: in `splitK` parts of `terms` each (the last may be shorter). Depends on variant and shape alone. */
export function splitOf(variant: MatmulVariant, shape: ProductShape): { splitK: number; terms: number } {
  const { m, n, k, portable } = shape;
  const { splitK: wanted } = parsed(variant);
  const most = Math.floor(SPLIT_VALUES / (m * vectors(n)));
  const splitK = Math.min(wanted === 'fit' ? fittingSplitK(shape) : wanted, most);
  if (splitK < 2) return { splitK: 1, terms: k };
  if (portable) {
    // A part is a segment, so that the parts are added as other kernels add the segments.
    const segments = Math.ceil(k / SEGMENT);
    return segments < 2 || segments > most ? { splitK: 1, terms: k } : { splitK: segments, terms: SEGMENT };
  }
  const terms = Math.ceil(k / splitK / SPLIT_STEP) * SPLIT_STEP;
  return { splitK: Math.ceil(k / terms), terms: Math.min(terms, k) };
}

/** A copy of an operand: leading dimension and size in values, offset in the scratch in values of 32 bits. */
export interface OperandCopy {
  readonly how: 'transposed' | 'spaced';
  readonly ld: number;
  readonly offset: number;
  readonly values: number;
}

/** Extra values of a row in a spaced copy: one cache line, so that rows begin in different sets of the cache. */
const SPACE = 16;

/** The copies that `kernel` wants of operands with these leading dimensions, the layout it then computes, and the scratch. */
export function operandCopies(
  kernel: MatmulKernel,
  shape: ProductShape,
  lda: number,
  ldb: number,
): { readonly a?: OperandCopy; readonly b?: OperandCopy; readonly layout: Layout; readonly values: number } {
  const { n, k } = shape;
  const wanted = kernel.copies?.(shape) ?? {};
  let values = 0;
  // Copies a matrix with rows of k values.
  const copy = (how: OperandCopy['how'] | undefined, rows: number, isTight: boolean): OperandCopy | undefined => {
    if (how === undefined || (how === 'spaced' && !isTight)) return undefined;
    const offset = alignValues(values);
    const ld = how === 'transposed' ? vectors(rows) : vectors(k) + SPACE;
    const size = (how === 'transposed' ? k : rows) * ld;
    values = offset + size;
    return { how, ld, offset, values: size };
  };
  const a = copy(wanted.a, rowsOf(shape), lda === k);
  const b = copy(wanted.b, n, ldb === k);
  return { a, b, layout: wanted.layout ?? shape.layout, values };
}

/** The kernel that computes a product of this shape. */
export function kernelFor(variant: MatmulVariant, shape: ProductShape): MatmulKernel {
  const named = matmulKernel(variant);
  return named.instead?.(shape) ?? named;
}

/** Values of scratch that `variant` needs for a product, at most. */
export function scratchValues(variant: MatmulVariant, shape: ProductShape): number {
  const { splitK } = splitOf(variant, shape);
  if (splitK > 1) return splitK * rowsOf(shape) * vectors(shape.n);
  return operandCopies(kernelFor(variant, shape), shape, shape.k, shape.k).values;
}

/**
 * Rules that choose the variant for a product: the first one whose pattern fits. The last pattern is `*`, which fits all.
 * Other patterns look like a `shapeClass`: layout, M x N x K, output. Each of these words may be `*`: `TN 1024x1024x* grid`.
 */
export type MatmulTable = readonly (readonly [pattern: string, variant: MatmulVariant])[];

export const EVERY_PRODUCT = '*';

/** The form of a rule's pattern. */
export const MATMUL_PATTERN = /^(\*|(NN|NT|TN|\*) (\d+|\*)x(\d+|\*)x(\d+|\*) (store|grid|\*))$/;

/**
 * The class of a shape, such as `NN 512x4096x1024 store`: layout, M x N x K (each rounded up to a power of two), output.
 * Products of a class share a variant.
 */
export function shapeClass({ layout, m, n, k, output }: ProductShape): string {
  const sizes = [m, n, k].map((size) => 2 ** Math.ceil(Math.log2(size)));
  // Plans that exist say `grid` for fixed point.
  return `${layout} ${sizes.join('x')} ${output === 'fixed' ? 'grid' : output}`;
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

/** The table of a new run on this adapter. */
export function defaultMatmulTable(adapter: AdapterDescription): MatmulTable {
  const variant = `subgroup${adapter.subgroupSize}`;
  if (!adapter.software) return always('tile64x64/kfit');
  return always(isMatmulVariant(variant) ? variant : 'tile64x64');
}

/** The variants of a table, separated by commas, the last rule's first. */
export function describeTable(table: MatmulTable): string {
  return [...new Set(table.map(([, variant]) => variant).reverse())].join(', ');
}
