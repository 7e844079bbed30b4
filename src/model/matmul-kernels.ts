/*
 * The kernels for matrix products, and what each wants of a shape. Which one computes which product is for
 * `matmul-plan.ts` to say.
 */

/** NN: C[M,N] = A[M,K] B[K,N]; NT: C = A[M,K] B[N,K]^T; TN: C = A[K,M]^T B[K,N]. All row-major. */
export type Layout = 'NN' | 'NT' | 'TN';

/** What a choice of kernel depends on; `stack` aside, of which no bit may depend. */
export interface ProductShape {
  readonly layout: Layout;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly output: 'store' | 'fixed';
  /** So many products are computed at once (shaders/matmul_operands.wgsl): m, n and k are those of one. Default 1. */
  readonly stack?: number;
}

/** The rows of C that are computed at once. */
export function rowsOf({ layout, m, stack = 1 }: ProductShape): number {
  return layout === 'TN' ? m : m * stack;
}

/**
 * A kernel for matrix products: one shader and how it cuts C into tiles, a workgroup each. All of them add an element's
 * products one by one, k rising, so that on most adapters all give the same bits, unless K is split.
 */
export interface MatmulKernel {
  /** File in `shaders/` without `.wgsl`; its entry points are those of shaders/epilogue.wgsl. */
  readonly shader: string;
  /** Rows and columns of a tile in a product of `m` rows. */
  readonly tile: (m: number, layout: Layout) => readonly [rows: number, columns: number];
  /** Its shader for other shapes: what computes this product, if not the kernel itself. */
  readonly instead?: (shape: ProductShape) => MatmulKernel | undefined;
  /** How many tiles one below the other are computed before those to their right (shaders/matmul_operands.wgsl). */
  readonly swizzleRows?: (shape: ProductShape) => number;
  /** Copies of its operands that it reads in their place. */
  readonly copies?: (shape: ProductShape) => OperandCopies;
  /** Override constants besides those that every product has. */
  readonly constants?: (tileRows: number) => Readonly<Record<string, number | boolean>>;
  /** The subgroup size that it needs, which must be the adapter's only one. */
  readonly subgroupSize?: number;
  /** It can be split along K. */
  readonly canSplitK?: boolean;
}

/** How operands are copied before a product (shaders/arrange.wgsl): `spaced` has rows of another length. */
export interface OperandCopies {
  readonly a?: 'transposed' | 'spaced';
  readonly b?: 'transposed' | 'spaced';
  /** The layout that the kernel then computes, where it is another one than the product's. */
  readonly layout?: Layout;
}

/**
 * Whether rows of `k` float32 begin in so few sets of a processor's first cache (64 sets, 8 ways, lines of 64 bytes) that
 * 32 of them drive each other out.
 */
function collides(k: number): boolean {
  return k % 512 === 0;
}

/** `values` rounded up to whole vec4s. */
export function vectors(values: number): number {
  return 4 * Math.ceil(values / 4);
}

/** What stays in a core's second cache beside all else. */
const PANEL_BYTES = 256 * 1024;

/** Products below this gain less than a copy of A costs. */
const FEWEST_COLUMNS = 256;

/** Those of fewer columns or rows gain less than a transposed copy costs of what meets them, A or B. */
const FEWEST_TRANSPOSED = 512;

/** Most values of the copy of an operand: 64 MiB. Larger ones, of the head's weights, gain less than they cost. */
const COPY_VALUES = 2 ** 24;

/**
 * For shaders/matmul_subgroup_tall.wgsl, which loads what has k one below another most cheaply: a lane's four values lie
 * side by side. Where that gains more than the copies cost, a product becomes TN.
 */
function tallCopies(shape: ProductShape): OperandCopies {
  const { layout, n, k } = shape;
  const rows = rowsOf(shape);
  if (layout === 'TN') return {};
  const spaced = collides(k) && n >= FEWEST_COLUMNS ? 'spaced' : undefined;
  // What would be spaced costs a copy either way.
  const fewest = spaced ? FEWEST_COLUMNS : FEWEST_TRANSPOSED;
  if (layout === 'NN') {
    if (n >= fewest && rows * k <= COPY_VALUES) return { a: 'transposed', layout: 'TN' };
    return { a: spaced };
  }
  if (n * k > COPY_VALUES) return { a: 'transposed' };
  if (rows >= fewest) return { a: 'transposed', b: 'transposed', layout: 'TN' };
  return { a: 'transposed', b: spaced };
}

/** For software adapters, whose subgroups have `lanes` lanes; tiles of at most `mostRows` rows. */
function subgroupKernel(lanes: number, mostRows = 32): MatmulKernel {
  const tall: MatmulKernel = {
    shader: 'matmul_subgroup_tall',
    tile: (_, layout) => (layout === 'NN' ? [4 * lanes, 64] : [64, 4 * lanes]),
    constants: () => ({ LANES: lanes }),
    // A processor foresees the addresses of its places, each a row, but not of its lines, a few in every row: the panel
    // of 64 lines is what should stay in the second cache.
    swizzleRows: ({ layout, k }) => (layout === 'NN' && 64 * 4 * k <= PANEL_BYTES ? Number.POSITIVE_INFINITY : 1),
    copies: tallCopies,
  };
  return {
    shader: 'matmul_subgroup',
    // More rows a tile are faster, but a product of few rows would compute what nobody stores.
    tile: (m) => [Math.min(mostRows, m > 16 ? 32 : m > 8 ? 16 : 8), 4 * lanes],
    constants: (ROWS) => ({ LANES: lanes, ROWS }),
    subgroupSize: lanes,
    instead:
      mostRows < 32
        ? undefined
        : ({ layout, m, n }) => {
            // Of a tile of 64 lines, half would be nobody's.
            const lines = layout === 'NN' ? n : m;
            return m > 16 && lines > 32 && (layout !== 'NT' || n >= FEWEST_COLUMNS) ? tall : undefined;
          },
  };
}

/** shaders/matmul_tile.wgsl: a workgroup's tile, a thread's blocks of 4 x 4, values of k a step. */
function tiles(rows: number, columns: number, down: 1 | 2, across: 1 | 2, step: number, staged = true): MatmulKernel {
  return {
    shader: 'matmul_tile',
    tile: () => [rows, columns],
    constants: () => ({
      TILE_ROWS: rows,
      TILE_COLUMNS: columns,
      ROW_BLOCKS: down,
      COLUMN_BLOCKS: across,
      STEP: step,
      STAGED: staged,
    }),
    canSplitK: true,
  };
}

/** The same without workgroup memory, in workgroups of 8 x 8 threads. */
function registers(down: 1 | 2, across: 1 | 2): MatmulKernel {
  return tiles(32 * down, 32 * across, down, across, 4, false);
}

const KERNELS = {
  subgroup4: subgroupKernel(4),
  subgroup8: subgroupKernel(8),
  subgroup16: subgroupKernel(16),
  'subgroup4/16': subgroupKernel(4, 16),
  'subgroup8/16': subgroupKernel(8, 16),
  'subgroup16/16': subgroupKernel(16, 16),
  // Both staged tiles fit into 16 KiB, the least that an adapter has.
  tile32x32: tiles(32, 32, 1, 1, 16),
  tile32x64: tiles(32, 64, 1, 1, 16),
  tile64x64: tiles(64, 64, 1, 1, 16),
  'tile64x64/8x4': tiles(64, 64, 2, 1, 16),
  'tile64x64/8x8': tiles(64, 64, 2, 2, 16),
  tile64x128: tiles(64, 128, 1, 2, 16),
  'tile64x128/8x8': tiles(64, 128, 2, 2, 16),
  tile128x128: tiles(128, 128, 2, 2, 8),
  register4x4: registers(1, 1),
  register8x4: registers(2, 1),
  register4x8: registers(1, 2),
  register8x8: registers(2, 2),
  /** Slow and simple. */
  plain: { shader: 'matmul_plain', tile: () => [8, 32] },
} as const satisfies Record<string, MatmulKernel>;

export type KernelName = keyof typeof KERNELS;

/** Every kernel that a plan can name. */
export const MATMUL_KERNELS: Readonly<Record<KernelName, MatmulKernel>> = KERNELS;
