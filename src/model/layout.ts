import { LantrainError } from '../errors.js';
import type { Gpu } from '../gpu/device.js';
import { alignValues, paperView, slice, type View } from '../gpu/view.js';
import type { ModelConfig } from './config.js';
import { type Parameter, parameters } from './parameters.js';
import type { Precision } from './precision.js';

/** The unit of transfer, sum and update: consecutive values of the flat parameter array. */
export const BUCKET_VALUES = 2 ** 20;

/** How the flat array is cut: part of the plan, never an adapter's limit. */
export interface LayoutLimits {
  /** Largest number of values of one binding. Every adapter binds 128 MiB. */
  readonly windowValues: number;
  /** Largest number of values of one buffer; a multiple of the bucket. Every adapter makes buffers of 256 MiB. */
  readonly slabValues: number;
}

export const DEFAULT_LAYOUT_LIMITS: LayoutLimits = { windowValues: 2 ** 25, slabValues: 2 ** 26 };

/** Whole rows of one tensor that are bound together. A tensor up to the window's size is one piece. */
export interface Piece {
  readonly parameter: Parameter;
  readonly rowStart: number;
  readonly rows: number;
  readonly slab: number;
  /** Values from the start of the slab; a multiple of 64. */
  readonly offset: number;
  readonly size: number;
}

/**
 * Where every parameter lies in the flat array. The array is cut into slabs (buffers), and a piece never crosses one:
 *
 *     slab 0 (2^26 values)                          slab 1
 *     | wte rows 0.. | wte rows 25152.. | wpe | h.0... (gap)| h.5.mlp... | ln_f | lm_head rows 0.. | ...
 *     ^ pieces start at multiples of 64 values (256 bytes); bucket b is values [b * 2^20, (b + 1) * 2^20)
 */
export class ParameterLayout {
  readonly parameters: readonly Parameter[];
  readonly pieces: readonly Piece[];
  /** Values of each slab's buffer. Gaps at a slab's end are not allocated. */
  readonly slabSizes: readonly number[];
  readonly #byName = new Map<string, Piece[]>();

  constructor(
    readonly config: ModelConfig,
    readonly limits: LayoutLimits = DEFAULT_LAYOUT_LIMITS,
  ) {
    this.parameters = parameters(config);
    const pieces: Piece[] = [];
    const slabSizes = [0];
    for (const [i, parameter] of this.parameters.entries()) {
      for (const [rowStart, rows] of windowsOf(parameter, limits.windowValues)) {
        const size = (parameter.size / parameter.shape[0]) * rows;
        const next = parameter.beforeNext ? alignValues(this.parameters[i + 1].size) : 0;
        const together = alignValues(size) + next;
        if (slabSizes[slabSizes.length - 1] + together > limits.slabValues) slabSizes.push(0);
        const slab = slabSizes.length - 1;
        pieces.push({ parameter, rowStart, rows, slab, offset: slabSizes[slab], size });
        slabSizes[slab] += alignValues(size);
      }
    }
    this.pieces = pieces;
    this.slabSizes = slabSizes;
    for (const piece of pieces) {
      const list = this.#byName.get(piece.parameter.name) ?? [];
      list.push(piece);
      this.#byName.set(piece.parameter.name, list);
    }
  }

  has(name: string): boolean {
    return this.#byName.has(name);
  }

  piecesOf(name: string): readonly Piece[] {
    const pieces = this.#byName.get(name);
    if (pieces === undefined) throw new RangeError(`the model has no parameter ${name}`);
    return pieces;
  }

  /** Allocated values, gaps between tensors included. */
  get allocatedValues(): number {
    return this.slabSizes.reduce((a, b) => a + b, 0);
  }

  /** The buckets that hold anything, as ranges inside slabs. */
  buckets(): { readonly slab: number; readonly offset: number; readonly size: number }[] {
    return this.slabSizes.flatMap((used, slab) =>
      Array.from({ length: Math.ceil(used / BUCKET_VALUES) }, (_, i) => {
        const offset = i * BUCKET_VALUES;
        return { slab, offset, size: Math.min(BUCKET_VALUES, used - offset) };
      }),
    );
  }
}

/** The pieces of which products read copies (`OperandWeights`): the matrices of linear layers and head; none in float32. */
export function operandPieces(layout: ParameterLayout, precision: Precision = 'f32'): readonly Piece[] {
  if (precision === 'f32') return [];
  const head = layout.config.tie ? 'wte.weight' : 'lm_head.weight';
  return layout.pieces.filter(({ parameter }) => parameter.kind === 'matrix' || parameter.name === head);
}

/**
 * Pieces whose gradient a step writes only in part: an untied token embedding's, of which it writes some rows. Their sums are
 * never overwritten, only added to.
 */
export function sparsePieces(layout: ParameterLayout): readonly Piece[] {
  return layout.config.tie ? [] : layout.piecesOf('wte.weight');
}

/** Row ranges [start, count] of a tensor's windows, as equal as multiples of 64 rows allow. Throws LT_USAGE_MODEL. */
function windowsOf(parameter: Parameter, windowValues: number): [number, number][] {
  const [rows] = parameter.shape;
  if (parameter.size <= windowValues) return [[0, rows]];
  const width = parameter.size / rows;
  const inRows = parameter.kind === 'embedding' || parameter.name === 'lm_head.weight';
  if (!inRows || width * 64 > windowValues)
    throw new LantrainError(
      'LT_USAGE_MODEL',
      `${parameter.name} is too large for one binding; choose a smaller --width`,
    );
  let count = Math.ceil(parameter.size / windowValues);
  let each = 0;
  do each = Math.ceil(Math.ceil(rows / count++) / 64) * 64;
  while (each * width > windowValues);
  const result: [number, number][] = [];
  for (let start = 0; start < rows; start += each) result.push([start, Math.min(each, rows - start)]);
  return result;
}

/** One value for each parameter (weights, a moment, or one word of the 64-bit sums), in one buffer a slab. */
export class ParameterArena {
  private constructor(
    readonly layout: ParameterLayout,
    readonly slabs: readonly View[],
  ) {}

  static async allocate(gpu: Gpu, layout: ParameterLayout, label: string): Promise<ParameterArena> {
    const slabs: View[] = [];
    for (const [i, size] of layout.slabSizes.entries()) slabs.push(await gpu.buffer(`${label}.${i}`, size));
    return new ParameterArena(layout, slabs);
  }

  /** Views without buffers, for a graph that is only recorded. */
  static onPaper(layout: ParameterLayout): ParameterArena {
    return new ParameterArena(
      layout,
      layout.slabSizes.map((size) => paperView(size)),
    );
  }

  piece(piece: Piece): View {
    return slice(this.slabs[piece.slab], piece.offset, piece.size);
  }

  /** The view of the tensor `name`. Throws RangeError where it has several pieces. */
  tensor(name: string): View {
    const pieces = this.layout.piecesOf(name);
    if (pieces.length !== 1) throw new RangeError(`${name} is bound in ${pieces.length} windows`);
    return this.piece(pieces[0]);
  }

  range(slab: number, offset: number, size: number): View {
    return slice(this.slabs[slab], offset, size);
  }

  /** Reads a whole tensor, of one or several pieces, to the host. */
  async read(gpu: Gpu, name: string): Promise<Float32Array> {
    const pieces = this.layout.piecesOf(name);
    const all = new Float32Array(pieces[0].parameter.size);
    let at = 0;
    for (const piece of pieces) {
      await gpu.readInto(this.piece(piece), new Uint8Array(all.buffer, 4 * at, 4 * piece.size));
      at += piece.size;
    }
    return all;
  }

  /** Writes a whole tensor from the host. */
  write(gpu: Gpu, name: string, values: Float32Array): void {
    let at = 0;
    for (const piece of this.layout.piecesOf(name)) {
      gpu.write(this.piece(piece), values.subarray(at, at + piece.size));
      at += piece.size;
    }
  }
}
