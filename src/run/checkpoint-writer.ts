import type { NewCheckpoint } from '../checkpoint/checkpoint.js';
import type { StatePart } from '../checkpoint/digest.js';
import type { RunDirectory } from '../checkpoint/run.js';
import type { Saved } from '../checkpoint/saver.js';
import type { ParameterArena } from '../model/layout.js';
import { hostMemory } from '../node/memory.js';
import { version } from '../node/version.js';
import { formatBytes } from '../report/format.js';
import type { TrainingEngine } from '../train/engine.js';
import { StateSnapshot } from '../train/snapshot.js';
import type { TrainingJob } from './prepare.js';

export function arenaOf(engine: Pick<TrainingEngine, 'state'>, part: StatePart): ParameterArena {
  const { weights, first, second } = engine.state;
  return { weights, m: first, v: second }[part];
}

/** The host keeps this share of its free memory for others. */
const SPARED_FRACTION = 0.1;

/**
 * How a run's checkpoints are written; when, says `CheckpointSchedule`. One in the middle of training is copied to host
 * memory first, and hashed and written while the next steps go on; where the host has no memory for the copy, training
 * waits.
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
   * Takes the state after `step` updates; `written` says when it is on disk, and only then is another one taken. No
   * copy is made of the `final` state, which no step changes any more.
   */
  async save(step: number, final: boolean): Promise<{ readonly written: Promise<Saved> }> {
    const { run, engine, job } = this;
    const { model, options } = job.config;
    const { lossScale } = engine;
    const trainer: NewCheckpoint['trainer'] = lossScale ? { lossScale: { ...lossScale } } : {};
    const tokensSeen = step * options.batch * model.context;
    const checkpoint = { model, step, version: version(), tokensSeen, trainer };
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
    const needed = StateSnapshot.bytes(layout);
    const free = hostMemory();
    if (this.#snapshot === undefined && needed > (1 - SPARED_FRACTION) * free) {
      if (!this.#saidWhy)
        this.note(
          `training waits for its checkpoints: a copy of the state takes ${formatBytes(needed)} of memory, and ${formatBytes(free)} are free`,
        );
      this.#saidWhy = true;
      return undefined;
    }
    this.#snapshot ??= new StateSnapshot(layout);
    return this.#snapshot;
  }
}
