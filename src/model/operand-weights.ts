import type { Gpu } from '../gpu/device.js';
import type { KernelCache } from '../gpu/kernel.js';
import { DispatchList, linearGroups } from '../gpu/list.js';
import { type View, wholeVectors } from '../gpu/view.js';
import { portably } from './arithmetic.js';
import { operandPieces, type ParameterArena, type Piece } from './layout.js';
import type { Precision } from './precision.js';

/** Values that a workgroup of shaders/to_f16.wgsl, or of round_weights.wgsl, converts. */
const GROUP_VALUES = { to_f16: 256, round_weights: 2048 };

/** Copies of the weights as matrix products read them, float16 or rounded to 12 bits, as of the last `submit`. */
export class OperandWeights {
  private constructor(
    private readonly copies: ReadonlyMap<Piece, View>,
    /** Copies the current weights. */
    readonly convert: DispatchList,
  ) {}

  /** Undefined in float32, where products read the weights themselves. */
  static async build(
    kernels: KernelCache,
    weights: ParameterArena,
    precision: Precision | undefined,
  ): Promise<OperandWeights | undefined> {
    const copies = new Map<Piece, View>();
    const convert = new DispatchList();
    const f16 = precision === 'f16';
    const shader = f16 ? 'to_f16' : 'round_weights';
    for (const piece of operandPieces(weights.layout, precision)) {
      const copy = await kernels.gpu.buffer(`operand ${piece.parameter.name}`, piece.size, f16);
      copies.set(piece, f16 ? copy : { ...copy, rounded: true });
      const work = {
        shader,
        entry: 'convert',
        constants: { N: piece.size },
        bindings: { source: wholeVectors(weights.piece(piece)), destination: copy },
        groups: linearGroups(Math.ceil(piece.size / GROUP_VALUES[shader])),
      };
      convert.add(
        f16 ? { ...work, defines: ['f16'], bytes: 6 * piece.size } : portably({ ...work, bytes: 8 * piece.size }),
      );
    }
    if (copies.size === 0) return undefined;
    await convert.prepare(kernels);
    return new OperandWeights(copies, convert);
  }

  /** The copy of `piece`. Throws RangeError where products do not read it. */
  piece(piece: Piece): View {
    const copy = this.copies.get(piece);
    if (copy === undefined) throw new RangeError(`${piece.parameter.name} has no copy for products`);
    return copy;
  }

  release(gpu: Gpu): void {
    for (const copy of this.copies.values()) gpu.release(copy);
  }

  /** Queues copying the current weights. */
  submit(gpu: Gpu): void {
    this.convert.submit(gpu);
  }
}
