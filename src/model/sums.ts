import type { Gpu } from '../gpu/device.js';
import { Readback } from '../gpu/readback.js';
import { slice, type View } from '../gpu/view.js';
import type { GridArena } from './grid.js';
import { ParameterArena, type ParameterLayout, sparsePieces } from './layout.js';

/** Status words are this many values apart, so that each can be bound. */
const STATUS_STRIDE = 64;

/** Largest number of reads of the report at once. */
const REPORTS_IN_FLIGHT = 2;

/** Bits of a status word, as in `shaders/fixed_point.wgsl`. */
export const STATUS_NONFINITE = 1;
export const STATUS_OVERFLOW = 2;

/**
 * The exact gradient sums of one process: for each parameter a 64-bit integer, in units of 2^-40, or of the low wire's grid.
 *
 * `report` is the small buffer that the host reads once a step:
 *
 *     | status of tensor 0 | tensor 1 | ... | status of the loss | loss sum (low, high) | squares, one a norm chunk |
 *       64 values each; the first one of a status is used                                 low wire: squares and noise
 */
export class ExactSums {
  readonly #index: ReadonlyMap<string, number>;

  private constructor(
    readonly low: ParameterArena,
    readonly high: ParameterArena,
    readonly report: View,
    private readonly readback: Readback,
    readonly normChunks: number,
    /** The units of the sums in the low wire; undefined in the exact wire. */
    readonly grid?: GridArena,
  ) {
    this.#index = new Map(low.layout.parameters.map((p, i) => [p.name, i]));
  }

  static async allocate(gpu: Gpu, layout: ParameterLayout, grid?: GridArena): Promise<ExactSums> {
    const low = await ParameterArena.allocate(gpu, layout, 'sumLow');
    const high = await ParameterArena.allocate(gpu, layout, 'sumHigh');
    const normChunks = layout.slabSizes.reduce((n, size) => n + normChunksOf(size), 0);
    const values = STATUS_STRIDE * (layout.parameters.length + 2) + normViewValues(layout) * squareValues(grid);
    const report = await gpu.buffer('report', values);
    const readback = await Readback.create(gpu, 'staged report', report.size, REPORTS_IN_FLIGHT);
    return new ExactSums(low, high, report, readback, normChunks, grid);
  }

  /** Frees all buffers but the grid. No read may be pending. */
  release(gpu: Gpu): void {
    for (const view of [...this.low.slabs, ...this.high.slabs, this.report]) gpu.release(view);
    this.readback.release();
  }

  /** The status word of a tensor. */
  readonly status = (name: string): View => {
    const index = this.#index.get(name);
    if (index === undefined) throw new RangeError(`the model has no parameter ${name}`);
    return slice(this.report, index * STATUS_STRIDE, 1);
  };

  get lossStatus(): View {
    return slice(this.report, this.low.layout.parameters.length * STATUS_STRIDE, 1);
  }

  get loss(): View {
    return slice(this.report, (this.low.layout.parameters.length + 1) * STATUS_STRIDE, 2);
  }

  /**
   * What `addSquares` reads: the sums of squares of a slab's chunks, or of those of its `size` values from `offset` on, a
   * multiple of 64 chunks.
   */
  squares(slab: number, offset = 0, size = this.low.layout.slabSizes[slab] - offset): View {
    const { slabSizes, parameters } = this.low.layout;
    let at = STATUS_STRIDE * (parameters.length + 2);
    const each = squareValues(this.grid);
    for (let s = 0; s < slab; s++) at += each * alignedChunks(slabSizes[s]);
    return slice(this.report, at + (each * offset) / NORM_CHUNK_VALUES, each * normChunksOf(size));
  }

  /** Sets all sums, statuses and the loss to zero. */
  clear(gpu: Gpu): void {
    const encoder = gpu.device.createCommandEncoder();
    for (const { buffer } of [...this.low.slabs, ...this.high.slabs, this.report]) encoder.clearBuffer(buffer);
    gpu.device.queue.submit([encoder.finish()]);
  }

  /**
   * Prepares for a gradient that overwrites the sums. Sets to zero what it only adds to: the statuses, the loss and the sums
   * of `sparsePieces`.
   */
  begin(gpu: Gpu): void {
    const encoder = gpu.device.createCommandEncoder();
    encoder.clearBuffer(this.report.buffer);
    for (const piece of sparsePieces(this.low.layout))
      for (const { buffer, offset, size } of [this.low.piece(piece), this.high.piece(piece)])
        encoder.clearBuffer(buffer, offset, size);
    gpu.device.queue.submit([encoder.finish()]);
  }

  /** Reads the report, once everything submitted is done, and clears its statuses and the loss. */
  async takeReport(gpu: Gpu): Promise<StepReport> {
    const report = await this.readReport();
    gpu.write(this.report, new Uint32Array(STATUS_STRIDE * (this.low.layout.parameters.length + 1) + 2));
    return report;
  }

  /**
   * The report as everything submitted so far leaves it; more may be submitted meanwhile. Statuses and the loss add up since
   * the last `clear`, `begin` or `takeReport`.
   */
  readReport(): Promise<StepReport> {
    return this.readback.read(
      () => this.report,
      (bytes) => this.#parse(bytes),
    );
  }

  #parse(bytes: ArrayBuffer): StepReport {
    const words = new Uint32Array(bytes);
    const floats = new Float32Array(bytes);
    const { parameters, slabSizes } = this.low.layout;
    const nonFinite = parameters.filter((_, i) => words[i * STATUS_STRIDE] !== 0).map((p) => p.name);
    if (words[parameters.length * STATUS_STRIDE] !== 0) nonFinite.unshift('loss');
    const lossAt = (parameters.length + 1) * STATUS_STRIDE;
    const lossFixed = (BigInt(words[lossAt + 1] | 0) << 32n) + BigInt(words[lossAt]);
    const total = { squares: 0, noise: 0 };
    for (let s = 0; s < slabSizes.length; s++) {
      const { offset, size } = this.squares(s);
      addSquares(total, floats.subarray(offset / 4, (offset + size) / 4), this.grid !== undefined);
    }
    return { lossFixed, lossSum: fromLossFixed(lossFixed), nonFinite, ...total };
  }
}

/** A fixed-point sum of losses, in nats. */
export function fromLossFixed(sum: bigint): number {
  return Number(sum) * 2 ** -40;
}

export interface StepReport {
  /** The sum of all token losses, in steps of 2^-40. */
  readonly lossFixed: bigint;
  /** The sum of all token losses, in nats. */
  readonly lossSum: number;
  /** The sum of the squares of all gradients. Valid after the norm or an update has run. */
  readonly squares: number;
  /** Of the low wire: the expected square of the error that rounding adds to the gradients. Valid after an update has run. */
  readonly noise: number;
  /** The tensors (or `loss`) that had a NaN, an infinity or a value of 2^12 and more. */
  readonly nonFinite: readonly string[];
}

/** The values of a chunk's squares: in the low wire the noise as well. */
export function squareValues(grid: GridArena | undefined): 1 | 2 {
  return grid === undefined ? 1 : 2;
}

/** Adds chunks' squares to `total`, in order; in the `low` wire also their noise. */
export function addSquares(total: { squares: number; noise: number }, values: Float32Array, low: boolean): void {
  const each = low ? 2 : 1;
  for (let i = 0; i < values.length; i += each) {
    total.squares += values[i];
    if (low) total.noise += values[i + 1];
  }
}

/** Values of a chunk: the squares of gradients are added chunk by chunk (`shaders/squares.wgsl`). */
export const NORM_CHUNK_VALUES = 4096;

export function normChunksOf(slabValues: number): number {
  return Math.ceil(slabValues / NORM_CHUNK_VALUES);
}

const alignedChunks = (slabValues: number) => Math.ceil(normChunksOf(slabValues) / STATUS_STRIDE) * STATUS_STRIDE;

function normViewValues(layout: ParameterLayout): number {
  return layout.slabSizes.reduce((n, size) => n + alignedChunks(size), 0);
}
