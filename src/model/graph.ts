import type { Dispatch, DispatchList } from '../gpu/list.js';
import { f16Defines, slice, type View, valuesIn } from '../gpu/view.js';
import { portably } from './arithmetic.js';
import type { ModelConfig } from './config.js';
import { extentUniform } from './extent.js';
import type { GridArena } from './grid.js';
import type { ParameterArena, ParameterLayout, Piece } from './layout.js';
import { addMatmul, type FixedPointOutput, type MatmulArguments, type Rounding } from './matmul.js';
import type { Plan } from './plan.js';

/*
 * What the operations in `ops/` share. An operation is a function of a graph, of the name of its parameters and of its
 * views. It knows shapes and adds dispatches.
 */

/** Threads of a workgroup in kernels with a thread for each value. */
const THREADS = 64;

/** Workgroups of 64 threads for `n` threads. */
export function threadGroups(n: number): number {
  return Math.ceil(n / THREADS);
}

/** Activations of `stack` micro-batches (default 1), one below another, of `rows` rows each. */
export interface Rows {
  readonly rows: number;
  readonly stack?: number;
}

/** The rows of all micro-batches: M in the operations' shapes. */
export function rowsIn({ rows, stack = 1 }: Rows): number {
  return rows * stack;
}

/** A dropout that an operation applies: its key (`dropout.ts`), and the rows that share a slot. */
export interface Dropout {
  readonly key: View;
  readonly rowsPerSequence: number;
}

/** Where a process adds its gradients (`ExactSums`). */
export interface GradientSums {
  readonly low: ParameterArena;
  readonly high: ParameterArena;
  readonly loss: View;
  readonly lossStatus: View;
  /** Of the low wire: the grid that gradients are rounded to. */
  readonly grid?: GridArena;
  /** The status word of the tensor `name`. */
  readonly status: (name: string) => View;
}

/** Receives what operations launch: a list of dispatches, or a record of the products (`products.ts`). */
export interface Launches {
  /** Whether the arithmetic is portable (shaders/portable.wgsl). */
  readonly portable: boolean;
  add(dispatch: Dispatch): void;
  matmul(product: MatmulArguments): void;
}

/** Launches into `list`, in portable arithmetic or the adapter's. `scratch` is for products that split K or copy operands. */
export function launchInto(
  list: Pick<DispatchList, 'add'>,
  plan: Pick<Plan, 'matmul'>,
  portable: boolean,
  scratch?: View,
): Launches {
  const launched = portable ? { add: (dispatch: Dispatch) => list.add(portably(dispatch)) } : list;
  return {
    portable,
    add: (dispatch) => launched.add(dispatch),
    matmul: (product) => addMatmul(launched, plan.matmul, { ...product, scratch, portable }),
  };
}

export interface GraphParts {
  readonly plan: Plan;
  readonly weights: ParameterArena;
  /** Absent where nothing is trained. */
  readonly sums?: GradientSums;
  /** The copies of the weights that products read, where they do not read the weights themselves. */
  readonly operands?: { piece(piece: Piece): View };
  /** In mixed precision: a uniform of 1 / loss scale. */
  readonly unit?: View;
  /** Of the low wire: the uniform Rounding of shaders/rounding_low.wgsl. */
  readonly rounding?: View;
  /**
   * Whether gradients add to the sums or overwrite them. Default true. Exception: an untied token embedding always
   * accumulates, because only some of its rows are written.
   */
  readonly accumulate?: boolean;
}

/** A list of dispatches while operations add to it: they find parameters here and put gradients here. */
export class Graph {
  readonly plan: Plan;
  readonly weights: ParameterArena;
  readonly accumulate: boolean;
  readonly portable: boolean;

  constructor(
    private readonly launches: Launches,
    private readonly parts: GraphParts,
  ) {
    this.plan = parts.plan;
    this.weights = parts.weights;
    this.accumulate = parts.accumulate ?? true;
    this.portable = launches.portable;
  }

  get layout(): ParameterLayout {
    return this.weights.layout;
  }

  get config(): ModelConfig {
    return this.layout.config;
  }

  add(dispatch: Dispatch): void {
    this.launches.add(dispatch);
  }

  matmul(product: MatmulArguments): void {
    this.launches.matmul(product);
  }

  /** Throws where the graph is not for training. */
  get sums(): GradientSums {
    if (this.parts.sums === undefined) throw new Error('this graph was built without gradients');
    return this.parts.sums;
  }

  /** The piece of the parameter `name`. Throws RangeError where it has several. */
  piece(name: string): Piece {
    const pieces = this.layout.piecesOf(name);
    if (pieces.length !== 1) throw new RangeError(`${name} is bound in ${pieces.length} windows`);
    return pieces[0];
  }

  /** The pieces of the head's matrix [V, C]. */
  headPieces(): readonly Piece[] {
    return this.layout.piecesOf(this.config.tie ? 'wte.weight' : 'lm_head.weight');
  }

  /** A matrix as products read it: float16 in mixed precision, rounded in portable arithmetic. */
  operand(piece: Piece): View {
    return this.parts.operands?.piece(piece) ?? this.weights.piece(piece);
  }

  /**
   * Defines, bindings and uniforms for a dispatch that reads `gradient` and adds to the sums (shaders/rounding_exact.wgsl,
   * rounding_low.wgsl, unit.wgsl). The sums are those from the start of `first` to the end of `last`, neighbours in one buffer.
   */
  sumInto(
    gradient: View,
    first: Piece,
    last = first,
  ): Required<Pick<Dispatch, 'defines' | 'bindings' | 'uniforms'>> & { readonly bindings: Record<string, View> } {
    const { low, high, status } = this.sums;
    const { unit } = this.parts;
    const size = last.offset + last.size - first.offset;
    const rounding = this.#rounding(first);
    return {
      defines: [...(unit ? ['scaled'] : []), ...(rounding ? ['low'] : []), ...f16Defines({ f16Gradient: gradient })],
      uniforms: rounding ? { gridPlace: rounding.place } : {},
      bindings: {
        low: low.range(first.slab, first.offset, size),
        high: high.range(first.slab, first.offset, size),
        status: status(first.parameter.name),
        ...(unit && { gradientUnit: unit }),
        ...(rounding && { grid: rounding.grid, rounding: rounding.key }),
      },
    };
  }

  /** The output of a product that is the gradient of `piece`, `ldc` values a row. */
  productSums(piece: Piece, ldc: number, accumulate = this.accumulate, firstBatch = 0): FixedPointOutput {
    const { low, high, status } = this.sums;
    return {
      kind: 'fixed',
      low: low.piece(piece),
      high: high.piece(piece),
      status: status(piece.parameter.name),
      ldc,
      unit: this.parts.unit,
      rounding: this.#rounding(piece, firstBatch),
      accumulate,
    };
  }

  /** Where the gradients of `piece` find their exponents; undefined in the exact wire. */
  #rounding({ slab, offset }: Piece, firstBatch = 0): Rounding | undefined {
    const { grid } = this.sums;
    const { rounding: key } = this.parts;
    if (grid === undefined || key === undefined) return undefined;
    const before = this.layout.slabSizes.slice(0, slab).reduce((sum, size) => sum + size, 0);
    return { grid: grid.slabs[slab], key, place: [before + offset, offset, firstBatch] };
  }

  /** The extent for kernels that add the micro-batches of a stack one by one. */
  stackExtent({ rows, stack }: Rows) {
    return extentUniform({ rows, stack, accumulate: this.accumulate });
  }

  /**
   * Constants and workgroups of kernels that walk along rows (LayerNorm, cross-entropy). In portable arithmetic one thread or
   * eight share a row, because a row's sums have eight parts (shaders/row_sum_portable.wgsl): the same bits.
   */
  rowWalk(v: Rows): { constants: { LANES: number; ROWS: number }; groups: [number] } {
    const { rowLanes, rowsPerGroup } = this.plan;
    const [LANES, ROWS] = this.portable ? [rowLanes === 1 ? 1 : 8, 8] : [rowLanes, rowsPerGroup];
    return { constants: { LANES, ROWS }, groups: [Math.ceil(rowsIn(v) / ROWS)] };
  }
}

/** The columns of a row-major matrix from `column` on (a multiple of 64), with the same stride. */
export function columnsFrom(matrix: View, column: number): View {
  return slice(matrix, column, valuesIn(matrix) - column);
}
