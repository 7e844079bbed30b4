import type { NewCheckpoint } from '../checkpoint/checkpoint.js';
import type { StatePart } from '../checkpoint/digest.js';
import type { RunDirectory } from '../checkpoint/run.js';
import type { Saved } from '../checkpoint/saver.js';
import type { ParameterArena } from '../model/layout.js';
import { hostMemory } from '../node/memory.js';
import { version } from '../node/version.js';
import { formatBytes } from '../report/format.js';
import type { TrainingEngine } from '../train/engine.js';
import { partOf, StateSnapshot } from '../train/snapshot.js';
import type { TrainingJob } from './prepare.js';

export function arenaOf(engine: Pick<TrainingEngine, 'state'>, part: StatePart): ParameterArena {
  return partOf(engine.state, part);
}

/** The fraction of the host's free memory that a copy of the state leaves free. */
const SPARED_FRACTION = 0.1;

/**
 * Writes a run's checkpoints at the steps that `CheckpointSchedule` chooses. Within training it copies the state to
 * host memory and hashes and writes the copy while the next steps run. Where the host has no memory for a copy,
 * training waits for the write.
 */
export class CheckpointWriter {
  #snapshot: StateSnapshot | undefined;
  #saidWhy = false;

  constructor(
    private readonly run: RunDirectory,
    private readonly engine: TrainingEngine,
    private readonly job: TrainingJob,
    private readonly note: (text: string) => void,
  ) {}

  /**
   * Writes the state after `step` updates. Resolves when the state may change again; `written` resolves when the
   * checkpoint is on disk. Call it again only after that. The `final` state is written without a copy, since no step
   * changes it.
   */
  async save(step: number, final: boolean): Promise<{ readonly written: Promise<Saved> }> {
    const { run, engine, job } = this;
    const { model, options } = job.config;
    const { lossScale } = engine;
    const trainer: NewCheckpoint['trainer'] = lossScale ? { lossScale: { ...lossScale } } : {};
    const tokensSeen = step * options.batch * model.context;
    const checkpoint = { model, step, version: version(), tokensSeen, wire: options.wire, trainer };
    const snapshot = final ? undefined : this.#memory();
    if (snapshot === undefined) {
      const read = (part: StatePart, name: string) => arenaOf(engine, part).read(engine.gpu, name);
      const saved = await run.writeCheckpoint({ ...checkpoint, read });
      return { written: Promise.resolve(saved) };
    }
    await snapshot.take(engine.state);
    return { written: run.writeBeside(checkpoint, snapshot) };
  }

  #memory(): StateSnapshot | undefined {
    const { layout } = this.engine;
    const { wire } = this.job.config.options;
    const needed = StateSnapshot.bytes(layout, wire);
    const free = hostMemory();
    if (this.#snapshot === undefined && needed > (1 - SPARED_FRACTION) * free) {
      if (!this.#saidWhy)
        this.note(
          `training waits for its checkpoints: a copy of the state takes ${formatBytes(needed)} of memory, and ${formatBytes(free)} are free`,
        );
      this.#saidWhy = true;
      return undefined;
    }
    this.#snapshot ??= new StateSnapshot(layout, wire);
    return this.#snapshot;
  }
}
