import type { Constants } from '../gpu/kernel.js';
import { type Dispatch, type DispatchList, linearGroups } from '../gpu/list.js';
import { f16Defines, roundedDefines, slice, type View, valuesIn, wholeVectors } from '../gpu/view.js';
import { extentUniform } from './extent.js';
import { type Layout, rowsOf, SEGMENT } from './matmul-kernels.js';
import {
  keepsSums,
  kernelFor,
  type MatmulTable,
  type OperandCopy,
  operandCopies,
  scratchValues,
  splitOf,
  variantFor,
} from './matmul-plan.js';

/**
 * c = residual + dropout((acc + bias) * geluDerivative(geluGradient)), where acc is the product, without the parts that are
 * not given. `gelu` goes with `bias` and `accumulate` only, `dropout` does not go with `geluGradient`.
 */
export interface StoreOutput {
  readonly kind: 'store';
  /** [M, N] with leading dimension `ldc`, like everything below that is [M, N]. */
  readonly c: View;
  readonly ldc: number;
  /**
   * Whether the product adds to C or overwrites it. Default false. Products over windows of K, in order, each but the last a
   * multiple of 4 long, give the bits of one product, unless the variant splits K.
   */
  readonly accumulate?: boolean;
  /** [N] */
  readonly bias?: View;
  /** Becomes gelu(c); c keeps the argument. */
  readonly gelu?: View;
  /** GELU's argument h [M, N] in the forward pass: the result is multiplied by gelu'(h). */
  readonly geluGradient?: View;
  /**
   * `key` is a uniform DropoutKey (shaders/random.wgsl). Row r belongs to slot firstSlot + floor(r / rowsPerSequence);
   * its value in column n has place (r mod rowsPerSequence) * N + n.
   */
  readonly dropout?: { readonly key: View; readonly rowsPerSequence: number };
  /** [M, N], added last. */
  readonly residual?: View;
}

/** How gradients are rounded in the low wire (shaders/rounding_low.wgsl). */
export interface Rounding {
  /** The grid bytes of the whole slab. */
  readonly grid: View;
  /** The uniform with the step's key and the slots of the stack. */
  readonly key: View;
  /** Of the first of the sums: its place in the flat array, and in its slab. The stack's micro-batch of the first product. */
  readonly place: readonly [number, number, number];
}

/** Every value is rounded to an integer (shaders/rounding_exact.wgsl) and added to the 64-bit integers (low, high). */
export interface FixedPointOutput {
  readonly kind: 'fixed';
  /** [M, N] u32 each, with leading dimension `ldc`. */
  readonly low: View;
  readonly high: View;
  /** One u32: the status bits of all values are OR-ed into it. */
  readonly status: View;
  readonly ldc: number;
  /** A uniform float32, a power of two. Every value is multiplied by it first. */
  readonly unit?: View;
  /** Absent in the exact wire. */
  readonly rounding?: Rounding;
  /** Whether the product adds to the sums; else it overwrites them. In a stack only the first product can overwrite. */
  readonly accumulate: boolean;
}

export interface MatmulArguments {
  readonly layout: Layout;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /**
   * The number of products that are computed at once. Their rows lie one below another: with NN and NT (`store`) the rows of
   * A and C, with TN (`fixed`) the rows of A and B. TN products are rounded one by one. The bits are those of single
   * products. Default 1. Not for TN with a variant that splits K.
   */
  readonly stack?: number;
  readonly a: View;
  /** Leading dimension, in values. Where lda and ldb are multiples of 4, loads are several times as fast. */
  readonly lda: number;
  readonly b: View;
  readonly ldb: number;
  readonly output: StoreOutput | FixedPointOutput;
  /** Whether the arithmetic is portable. Default false. */
  readonly portable?: boolean;
  /** For variants that split K: at least `scratchValues` float32, free until the next dispatch. */
  readonly scratch?: View;
  /** The name of the operation in profiles. */
  readonly label?: string;
  /** The parameter that is an operand, or whose gradient is computed. `products.ts` groups products by it. */
  readonly matrix?: string;
}

const LAYOUTS: Record<Layout, number> = { NN: 0, NT: 1, TN: 2 };

/** Bytes of cache for the rows of A that the tiles of one swizzle band read. */
const SWIZZLE_BYTES = 1024 * 1024;

/**
 * Appends C = A B to `list`, by the variant that `table` names. Throws RangeError where sizes or outputs do not fit together
 * or scratch is too small.
 */
export function addMatmul(list: Pick<DispatchList, 'add'>, table: MatmulTable, args: MatmulArguments): void {
  const { layout, m, n, k, stack = 1, output, portable = false } = args;
  check(args);
  const shape = { layout, m, n, k, output: output.kind, stack, portable };
  const variant = variantFor(table, shape);
  const rows = rowsOf(shape);
  const kernel = kernelFor(variant, shape);
  const copies = operandCopies(kernel, shape, args.lda, args.ldb);
  const scratch = copies.values > 0 ? scratchFor(args, copies.values) : undefined;
  // A matrix that is copied has k columns.
  const arranged = (source: View, ld: number, rows: number, copy?: OperandCopy) =>
    copy && scratch
      ? { view: addCopy(list, source, ld, [rows, k], copy, scratch, portable), ld: copy.ld }
      : { view: source, ld };
  const { view: aView, ld: lda } = arranged(args.a, args.lda, rows, copies.a);
  const { view: bView, ld: ldb } = arranged(args.b, args.ldb, n, copies.b);
  const [tileRows, tileColumns] = kernel.tile(m, copies.layout);
  const tilesDown = Math.ceil(rows / tileRows);
  const { splitK, terms } = splitOf(variant, shape);
  if (splitK > 1 && layout === 'TN' && stack > 1)
    throw new RangeError(`${describe(args)}: ${variant} splits K, which goes with no stack of TN`);
  const constants = {
    LAYOUT: LAYOUTS[copies.layout],
    N: n,
    K: k,
    LDA: lda,
    LDB: ldb,
    LDC: output.ldc,
    VECTOR: lda % 4 === 0 && ldb % 4 === 0,
    ...(keepsSums(variant) && { KEEP_SUMS: true }),
    ...(kernel.canSplitK ? { TERMS: terms } : {}),
    ...kernel.constants?.(tileRows),
  };
  const uniforms = extentUniform({
    rows,
    stack: layout === 'TN' ? stack : 1,
    accumulate: output.accumulate,
    swizzleRows: Math.min(
      tilesDown,
      kernel.swizzleRows?.({ ...shape, layout: copies.layout }) ??
        Math.max(1, Math.floor(SWIZZLE_BYTES / (tileRows * k * 4))),
    ),
  });
  const a = wholeVectors(aView);
  const b = wholeVectors(bView);
  const operands = { a, a4: a, b, b4: b };
  const operandDefines = [...f16Defines({ f16A: a, f16B: b }), ...(portable ? roundingDefines(a, b) : [])];
  const groups = linearGroups(tilesDown * Math.ceil(n / tileColumns));
  const target = output.kind === 'fixed' ? fixedPointTarget(output) : storeTarget(output, a);
  const defines = [...target.defines, ...(n % 4 === 0 && output.ldc % 4 === 0 ? ['vec4'] : [])];
  const profile = { label: args.label, shape: `${rows}x${n}x${layout === 'TN' ? stack * k : k}` };
  const operandValues = layout === 'TN' ? stack * k * (m + n) : rows * k + k * n;
  const work = { flops: 2 * stack * m * n * k, bytes: 4 * (operandValues + rows * n) };
  if (splitK === 1) {
    const addsToC = output.kind === 'store' && output.accumulate === true;
    list.add({
      shader: kernel.shader,
      entry: target.entry,
      constants: { ...constants, ...target.constants, ...(portable && segmentsOf(k, addsToC)) },
      defines: [...operandDefines, ...defines],
      bindings: { ...operands, ...target.bindings },
      uniforms: { ...uniforms, ...target.uniforms },
      groups,
      ...profile,
      ...work,
    });
    return;
  }
  const partial = scratchFor(args, scratchValues(variant, shape));
  list.add({
    shader: kernel.shader,
    entry: 'splitK',
    constants,
    defines: operandDefines,
    bindings: { ...operands, partial },
    uniforms,
    groups: [...groups, splitK],
    ...profile,
    ...work,
  });
  list.add({
    shader: 'matmul_reduce',
    entry: target.entry,
    constants: { N: n, LDC: output.ldc, SPLIT_K: splitK, ...target.constants },
    defines,
    bindings: { partials: partial, ...target.bindings },
    uniforms: { ...uniforms, ...target.uniforms },
    groups: linearGroups(Math.ceil((rows * Math.ceil(n / 4)) / REDUCE_THREADS)),
    shape: profile.shape,
    bytes: partial.size + 4 * rows * n,
  });
}

/** Adds a copy of `source` [rows, columns] in `scratch`; returns its view. */
function addCopy(
  list: Pick<DispatchList, 'add'>,
  source: View,
  ld: number,
  [rows, columns]: readonly [number, number],
  copy: OperandCopy,
  scratch: View,
  portable: boolean,
): View {
  const isTransposed = copy.how === 'transposed';
  const words = source.f16 ? Math.ceil(copy.values / 2) : copy.values;
  const values = slice(scratch, copy.offset, words);
  const target = { ...values, ...(source.f16 && { f16: true }), ...(portable && { rounded: true }) };
  const threads = Math.ceil(columns / 4) * (isTransposed ? Math.ceil(rows / 4) : rows);
  const whole = wholeVectors(source);
  list.add({
    shader: 'arrange',
    entry: isTransposed ? 'transpose' : 'space',
    constants: { COLS: columns, LDS: ld, LDT: copy.ld, VECTOR: ld % 4 === 0 },
    defines: [...f16Defines({ f16: source }), ...(portable && !source.rounded ? ['round'] : [])],
    bindings: { source: whole, source4: whole, target4: target },
    uniforms: extentUniform({ rows }),
    groups: linearGroups(Math.ceil(threads / ARRANGE_THREADS)),
    shape: `${rows}x${columns}`,
    bytes: 2 * (source.f16 ? 2 : 4) * rows * columns,
  });
  return target;
}

/** Threads of a workgroup of shaders/arrange.wgsl. */
const ARRANGE_THREADS = 64;

/** Threads of a workgroup of shaders/matmul_reduce.wgsl; each has four values. */
const REDUCE_THREADS = 64;

function scratchFor(args: MatmulArguments, values: number): View {
  const { scratch } = args;
  if (scratch === undefined || scratch.size < 4 * values)
    throw new RangeError(`${describe(args)}: it needs ${values} values of scratch`);
  return slice(scratch, 0, values);
}

/** How shaders/matmul_operands.wgsl sums K in portable arithmetic. One segment that adds to nothing needs no total. */
function segmentsOf(k: number, addsToC: boolean): Constants {
  return k > SEGMENT || addsToC ? { SEGMENT, SEGMENTED: true } : {};
}

/** The operands that a kernel rounds while it loads them, because they are not stored rounded. */
function roundingDefines(a: View, b: View): string[] {
  return [...(a.rounded ? [] : ['roundA']), ...(b.rounded ? [] : ['roundB'])];
}

interface Target {
  readonly entry: string;
  readonly constants: Constants;
  readonly bindings: Readonly<Record<string, View>>;
  readonly defines: readonly string[];
  readonly uniforms?: Dispatch['uniforms'];
}

function fixedPointTarget({ low, high, status, unit, rounding }: FixedPointOutput): Target {
  const bindings = {
    ...{ low, high, status },
    ...(unit && { gradientUnit: unit }),
    ...(rounding && { grid: rounding.grid, rounding: rounding.key }),
  };
  const defines = [...(unit ? ['scaled'] : []), ...(rounding ? ['low'] : [])];
  return { entry: 'fixed', constants: {}, bindings, defines, uniforms: rounding && { gridPlace: rounding.place } };
}

/** `unused` is bound in place of optional inputs that are not given. */
function storeTarget(output: StoreOutput, unused: View): Target {
  const { c, accumulate, bias, gelu, geluGradient, dropout, residual } = output;
  const constants = { ACCUMULATE: accumulate ?? false, BIAS: bias !== undefined };
  const bindings = { c, bias: bias ?? unused };
  const defines = [
    ...f16Defines({ f16C: c, f16Gelu: gelu, f16Gradient: geluGradient }),
    ...roundedDefines({ roundC: c }),
  ];
  if (gelu !== undefined)
    return { entry: 'storeGelu', constants, defines, bindings: { ...bindings, geluOutput: gelu } };
  const RESIDUAL = residual !== undefined;
  if (dropout !== undefined)
    return {
      entry: 'storeDropout',
      defines,
      constants: { ...constants, RESIDUAL, ROWS_PER_SEQUENCE: dropout.rowsPerSequence },
      bindings: { ...bindings, residual: residual ?? unused, key: dropout.key },
    };
  return {
    entry: 'store',
    defines,
    constants: { ...constants, RESIDUAL, GELU_GRADIENT: geluGradient !== undefined },
    bindings: { ...bindings, gradient: geluGradient ?? unused, residual: residual ?? unused },
  };
}

function describe({ layout, m, n, k, stack = 1 }: MatmulArguments): string {
  return `matmul ${layout} ${stack > 1 ? `${stack} times ` : ''}${m}x${n}x${k}`;
}

function check(args: MatmulArguments): void {
  const { layout, n, stack = 1, a, lda, b, ldb, output } = args;
  const what = describe(args);
  for (const size of [args.m, n, args.k, stack])
    if (!Number.isInteger(size) || size < 1) throw new RangeError(`${what}: sizes must be whole numbers from 1 on`);
  const matrix = (name: string, view: View, rows: number, columns: number, ld: number) => {
    if (ld < columns) throw new RangeError(`${what}: the leading dimension of ${name} is ${ld}, below ${columns}`);
    const values = (rows - 1) * ld + columns;
    const has = valuesIn(view);
    if (values > has) throw new RangeError(`${what}: ${name} needs ${values} values, has ${has}`);
  };
  if (stack > 1 && (layout === 'TN') !== (output.kind === 'fixed'))
    throw new RangeError(`${what}: a stack of TN goes to fixed point, one of NN or NT is stored`);
  // Sizes of the whole stack.
  const [m, k] = layout === 'TN' ? [args.m, stack * args.k] : [stack * args.m, args.k];
  const [aRows, aColumns] = layout === 'TN' ? [k, m] : [m, k];
  const [bRows, bColumns] = layout === 'NT' ? [n, k] : [k, n];
  matrix('A', a, aRows, aColumns, lda);
  matrix('B', b, bRows, bColumns, ldb);
  if (output.kind === 'fixed') {
    matrix('low', output.low, m, n, output.ldc);
    matrix('high', output.high, m, n, output.ldc);
    return;
  }
  const { c, ldc, bias, gelu, geluGradient, dropout, residual } = output;
  for (const [name, view] of Object.entries({ c, gelu, geluGradient, residual }))
    if (view !== undefined) matrix(name, view, m, n, ldc);
  if (bias !== undefined) matrix('bias', bias, 1, n, n);
  if (gelu !== undefined && (geluGradient ?? dropout ?? residual) !== undefined)
    throw new RangeError(`${what}: gelu goes with bias and accumulate only`);
  if (dropout !== undefined && geluGradient !== undefined)
    throw new RangeError(`${what}: dropout does not go with geluGradient`);
}
