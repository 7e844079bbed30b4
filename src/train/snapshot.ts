import type { SharedState } from '../checkpoint/shared-state.js';
import type { ParameterArena, ParameterLayout } from '../model/layout.js';
import type { TrainingState } from './optimizer.js';

/**
 * A copy of the training state in host memory, 12 bytes a parameter. Another thread may read it while the next steps change
 * the state itself. Every copy reuses its memory.
 */
export class StateSnapshot implements SharedState {
  readonly memory: SharedState['memory'];
  readonly places: SharedState['places'];

  constructor(layout: ParameterLayout) {
    const slabs = () => layout.slabSizes.map((values) => new SharedArrayBuffer(4 * values));
    this.memory = { weights: slabs(), m: slabs(), v: slabs() };
    this.places = Object.fromEntries(
      layout.parameters.map(({ name }) => [
        name,
        layout.piecesOf(name).map(({ slab, offset, size }) => ({ slab, offset, size })),
      ]),
    );
  }

  static bytes(layout: ParameterLayout): number {
    return 12 * layout.allocatedValues;
  }

  /** Reads the state as it is after everything submitted so far; nothing may change it until this is done. */
  async take({ gpu, weights, m, v }: TrainingState): Promise<void> {
    const read = async ({ layout, slabs }: ParameterArena, memory: readonly SharedArrayBuffer[]) => {
      for (const [i, values] of layout.slabSizes.entries())
        await gpu.readInto({ ...slabs[i], size: 4 * values }, new Uint8Array(memory[i]));
    };
    await read(weights, this.memory.weights);
    await read(m, this.memory.m);
    await read(v, this.memory.v);
  }
}
