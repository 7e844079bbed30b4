import { type StatePart, statePartsOf } from '../checkpoint/digest.js';
import type { SharedState } from '../checkpoint/shared-state.js';
import type { ParameterArena, ParameterLayout } from '../model/layout.js';
import type { Wire } from '../model/wire.js';
import type { TrainingState } from './optimizer.js';

/**
 * A copy of the training state in host memory, 12 bytes a parameter, in the low wire 16. Another thread may read it while the next steps change
 * the state itself. Every copy reuses its memory.
 */
export class StateSnapshot implements SharedState {
  readonly memory: SharedState['memory'];
  readonly places: SharedState['places'];

  constructor(layout: ParameterLayout, wire?: Wire) {
    const slabs = () => layout.slabSizes.map((values) => new SharedArrayBuffer(4 * values));
    this.memory = Object.fromEntries(statePartsOf(wire).map((part) => [part, slabs()]));
    this.places = Object.fromEntries(
      layout.parameters.map(({ name }) => [
        name,
        layout.piecesOf(name).map(({ slab, offset, size }) => ({ slab, offset, size })),
      ]),
    );
  }

  static bytes(layout: ParameterLayout, wire?: Wire): number {
    return 4 * statePartsOf(wire).length * layout.allocatedValues;
  }

  /** Reads the state as it is after everything submitted so far; nothing may change it until this is done. */
  async take(state: TrainingState): Promise<void> {
    for (const [part, memory] of Object.entries(this.memory)) {
      const { layout, slabs } = partOf(state, part as StatePart);
      for (const [i, values] of layout.slabSizes.entries())
        await state.gpu.readInto({ ...slabs[i], size: 4 * values }, new Uint8Array(memory[i]));
    }
  }
}

/** The array of a part of the state. */
export function partOf(state: Pick<TrainingState, StatePart>, part: StatePart): ParameterArena {
  const arena = state[part];
  if (arena === undefined) throw new RangeError(`the state has no ${part}`);
  return arena;
}
