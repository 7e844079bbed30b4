/*
 * The kernels for matrix products, and how each cuts a product into tiles. `matmul-plan.ts` chooses a kernel for a product.
 */

/** NN: C[M,N] = A[M,K] B[K,N]; NT: C = A[M,K] B[N,K]^T; TN: C = A[K,M]^T B[K,N]. All row-major. */
export type Layout = 'NN' | 'NT' | 'TN';

/** A product, as far as the choice of its kernel depends on it. `stack` may change the choice, but no bit of the result. */
export interface ProductShape {
  readonly layout: Layout;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly output: 'store' | 'fixed';
  /** Products computed at once (shaders/matmul_operands.wgsl); m, n and k are those of one. Default 1. */
  readonly stack?: number;
  /** Whether K is summed in segments of `SEGMENT`, split or not (portable arithmetic). Default false. */
  readonly portable?: boolean;
}

/** Terms of a segment of K in portable arithmetic. Every kernel's step divides it. */
export const SEGMENT = 256;

/** The rows of C that are computed at once. */
export function rowsOf({ layout, m, stack = 1 }: ProductShape): number {
  return layout === 'TN' ? m : m * stack;
}

/**
 * A kernel for matrix products: a shader and how it cuts C into tiles, one for each workgroup. All kernels add an element's
 * products one by one, k rising. So on most adapters all give the same bits, unless K is split.
 */
export interface MatmulKernel {
  /** File in `shaders/` without `.wgsl`; its entry points are those of shaders/epilogue.wgsl. */
  readonly shader: string;
  /** Rows and columns of a tile in a product of `m` rows. */
  readonly tile: (m: number, layout: Layout) => readonly [rows: number, columns: number];
  /** The kernel that computes this product instead, if it is not this one. */
  readonly instead?: (shape: ProductShape) => MatmulKernel | undefined;
  /** Rows of tiles in a swizzle band (shaders/matmul_operands.wgsl). */
  readonly swizzleRows?: (shape: ProductShape) => number;
  /** Copies that it reads instead of its operands. */
  readonly copies?: (shape: ProductShape) => OperandCopies;
  /** Override constants besides those that every product has. */
  readonly constants?: (tileRows: number) => Readonly<Record<string, number | boolean>>;
  /** The subgroup size that it needs; the adapter must have this size only. */
  readonly subgroupSize?: number;
  /** Whether it can compute split-K. */
  readonly canSplitK?: boolean;
}

/** How operands are copied before a product (shaders/arrange.wgsl). `spaced`: with longer rows. */
export interface OperandCopies {
  readonly a?: 'transposed' | 'spaced';
  readonly b?: 'transposed' | 'spaced';
  /** The layout of the product of the copies, where it differs from the product's own. */
  readonly layout?: Layout;
}

/**
 * Whether 32 rows of `k` float32 evict each other from a processor's L1 cache (64 sets, 8 ways, lines of 64 bytes), because
 * they begin in too few sets.
 */
function collides(k: number): boolean {
  return k % 512 === 0;
}

/** `values` rounded up to whole vec4s. */
export function vectors(values: number): number {
  return 4 * Math.ceil(values / 4);
}

/** Bytes that stay in a core's L2 cache beside everything else. */
const PANEL_BYTES = 256 * 1024;

/** Products of fewer columns gain less than a copy of A costs. */
const FEWEST_COLUMNS = 256;

/** Products of fewer columns (or rows) gain less than a transposed copy of A (or B) costs. */
const FEWEST_TRANSPOSED = 512;

/** Largest number of values of an operand's copy: 64 MiB. A larger one, of the head's weights, costs too much. */
const COPY_VALUES = 2 ** 24;

/**
 * Copies for shaders/matmul_subgroup_tall.wgsl. It loads cheapest what is stored by k: then a lane's four values lie side by
 * side. So a product becomes TN where that gains more than the copies cost.
 */
function tallCopies(shape: ProductShape): OperandCopies {
  const { layout, n, k } = shape;
  const rows = rowsOf(shape);
  if (layout === 'TN') return {};
  const spaced = collides(k) && n >= FEWEST_COLUMNS ? 'spaced' : undefined;
  // An operand that would be spaced costs a copy either way.
  const fewest = spaced ? FEWEST_COLUMNS : FEWEST_TRANSPOSED;
  if (layout === 'NN') {
    if (n >= fewest && rows * k <= COPY_VALUES) return { a: 'transposed', layout: 'TN' };
    return { a: spaced };
  }
  if (n * k > COPY_VALUES) return { a: 'transposed' };
  if (rows >= fewest) return { a: 'transposed', b: 'transposed', layout: 'TN' };
  return { a: 'transposed', b: spaced };
}

/** For software adapters with subgroups of `lanes` lanes. Tiles have at most `mostRows` rows. */
function subgroupKernel(lanes: number, mostRows = 32): MatmulKernel {
  const tall: MatmulKernel = {
    shader: 'matmul_subgroup_tall',
    tile: (_, layout) => (layout === 'NN' ? [4 * lanes, 64] : [64, 4 * lanes]),
    constants: () => ({ LANES: lanes }),
    // A processor prefetches places, whose rows it walks along, but not lines, of which it reads a few in every row. So the
    // panel of 64 lines should stay in the L2 cache.
    swizzleRows: ({ layout, k }) => (layout === 'NN' && 64 * 4 * k <= PANEL_BYTES ? Number.POSITIVE_INFINITY : 1),
    copies: tallCopies,
  };
  return {
    shader: 'matmul_subgroup',
    // Tiles of more rows are faster, but a product of few rows would compute rows that are never stored.
    tile: (m) => [Math.min(mostRows, m > 16 ? 32 : m > 8 ? 16 : 8), 4 * lanes],
    constants: (ROWS) => ({ LANES: lanes, ROWS }),
    subgroupSize: lanes,
    instead:
      mostRows < 32
        ? undefined
        : ({ layout, m, n }) => {
            // With so few lines, half of a tile of 64 would be wasted.
            const lines = layout === 'NN' ? n : m;
            return m > 16 && lines > 32 && (layout !== 'NT' || n >= FEWEST_COLUMNS) ? tall : undefined;
          },
  };
}

/** shaders/matmul_tile.wgsl with tiles of `rows` x `columns`, `down` x `across` blocks of 4 x 4 a thread, `step` values of k. */
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

/** shaders/matmul_tile.wgsl without workgroup memory, in workgroups of 8 x 8 threads. */
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
  // Both staged operands fit into 16 KiB, the least workgroup memory of any adapter.
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
