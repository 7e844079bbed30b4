import type { Gpu } from '../gpu/device.js';
import type { KernelCache } from '../gpu/kernel.js';
import { DispatchList, linearGroups } from '../gpu/list.js';
import type { View } from '../gpu/view.js';
import { halfPieces, type ParameterArena, type Piece } from './layout.js';

/** Values that a workgroup of shaders/half.wgsl converts. */
const GROUP_VALUES = 256;

/** Float16 copies of the weights that matrix products read. They are as old as the last `submit`. */
export class HalfWeights {
  private constructor(
    private readonly copies: ReadonlyMap<Piece, View>,
    private readonly convert: DispatchList,
  ) {}

  static async build(kernels: KernelCache, weights: ParameterArena): Promise<HalfWeights> {
    const copies = new Map<Piece, View>();
    const convert = new DispatchList();
    for (const piece of halfPieces(weights.layout)) {
      const copy = await kernels.gpu.buffer(`half ${piece.parameter.name}`, piece.size, true);
      copies.set(piece, copy);
      convert.add({
        shader: 'half',
        entry: 'convert',
        constants: { N: piece.size },
        switches: ['half'],
        bindings: { source: weights.piece(piece), destination: copy },
        groups: linearGroups(Math.ceil(piece.size / GROUP_VALUES)),
        bytes: 6 * piece.size,
      });
    }
    await convert.prepare(kernels);
    return new HalfWeights(copies, convert);
  }

  piece(piece: Piece): View {
    const copy = this.copies.get(piece);
    if (copy === undefined) throw new RangeError(`${piece.parameter.name} has no float16 copy`);
    return copy;
  }

  /** Queues: the copies are those of the weights as they are now. */
  submit(gpu: Gpu): void {
    this.convert.submit(gpu);
  }
}
