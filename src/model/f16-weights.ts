import type { Gpu } from '../gpu/device.js';
import type { KernelCache } from '../gpu/kernel.js';
import { DispatchList, linearGroups } from '../gpu/list.js';
import type { View } from '../gpu/view.js';
import { f16Pieces, type ParameterArena, type Piece } from './layout.js';

/** Values that a workgroup of shaders/to_f16.wgsl converts. */
const GROUP_VALUES = 256;

/** Float16 copies of the weights that matrix products read, as of the last `submit`. */
export class F16Weights {
  private constructor(
    private readonly copies: ReadonlyMap<Piece, View>,
    private readonly convert: DispatchList,
  ) {}

  static async build(kernels: KernelCache, weights: ParameterArena): Promise<F16Weights> {
    const copies = new Map<Piece, View>();
    const convert = new DispatchList();
    for (const piece of f16Pieces(weights.layout)) {
      const copy = await kernels.gpu.buffer(`f16 ${piece.parameter.name}`, piece.size, true);
      copies.set(piece, copy);
      convert.add({
        shader: 'to_f16',
        entry: 'convert',
        constants: { N: piece.size },
        defines: ['f16'],
        bindings: { source: weights.piece(piece), destination: copy },
        groups: linearGroups(Math.ceil(piece.size / GROUP_VALUES)),
        bytes: 6 * piece.size,
      });
    }
    await convert.prepare(kernels);
    return new F16Weights(copies, convert);
  }

  piece(piece: Piece): View {
    const copy = this.copies.get(piece);
    if (copy === undefined) throw new RangeError(`${piece.parameter.name} has no float16 copy`);
    return copy;
  }

  /** Queues copying the current weights. */
  submit(gpu: Gpu): void {
    this.convert.submit(gpu);
  }
}
