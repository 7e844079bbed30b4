import type { Dispatch } from '../../gpu/list.js';
import { type View, wholeVectors } from '../../gpu/view.js';
import { type Graph, type Rows, rowsIn } from '../graph.js';
import type { Piece } from '../layout.js';

/** Threads side by side in a workgroup, four columns each, and the most threads that share four columns. */
const COLUMN_LANES = 8;
const COLUMN_SLICES = 16;

/** Rows of a chunk in portable arithmetic, whatever the plan. */
const PORTABLE_COLUMN_ROWS = 16;

/**
 * The common part of dispatches of shaders/columns.wgsl: column sums of dy [M, N], added to the gradients of the neighbouring
 * parameters `first` to `last`.
 */
export function columnSums(g: Graph, v: Rows & { dy: View }, N: number, first: Piece, last = first) {
  const { rows, stack = 1 } = v;
  const { rowLanes } = g.plan;
  const columnRows = g.portable ? PORTABLE_COLUMN_ROWS : g.plan.columnRows;
  // A plan with one thread a row (software adapters) has one thread a column as well.
  const slices = rowLanes === 1 ? 1 : Math.min(COLUMN_SLICES, stack * Math.ceil(rows / columnRows));
  const { defines, bindings, uniforms } = g.sumInto(v.dy, first, last);
  return {
    shader: 'columns',
    defines,
    constants: { N, ROWS: columnRows, LANES: COLUMN_LANES, SLICES: slices },
    bindings: { dy: wholeVectors(v.dy), ...bindings },
    uniforms: { ...g.stackExtent(v), ...uniforms },
    groups: [Math.ceil(N / 4 / COLUMN_LANES)],
  } as const satisfies Omit<Dispatch, 'entry'>;
}

/** Adds the gradient of the bias `name`: the column sums of dy [M, N]. */
export function biasGradient(g: Graph, name: string, v: Rows & { dy: View }): void {
  const piece = g.piece(name);
  const N = piece.size;
  g.add({ ...columnSums(g, v, N, piece), entry: 'bias', bytes: 4 * rowsIn(v) * N + 16 * N });
}
