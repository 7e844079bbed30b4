import type { RunDirectory } from '../checkpoint/run.js';
import type { ParameterLayout } from '../model/layout.js';
import type { WorkersEvent } from '../report/metrics.js';
import type { TrainingEngine } from '../train/engine.js';
import type { RunControls } from '../watch/server/controls.js';
import type { BytesByUse } from './header.js';
import type { RunJournal } from './journal.js';
import type { TrainingJob } from './prepare.js';
import type { Tell } from './tell.js';

/** How a run ends, for who takes part in it. */
export type Ending = 'done' | 'stopped' | 'failed';

/** A run whose loop is about to begin. */
export interface StartedRun {
  readonly run: RunDirectory;
  readonly journal: RunJournal;
  readonly controls: RunControls;
  readonly tell: Tell;
  /** Told when nobody is there to compute, and when somebody is again. */
  waiting(waits: boolean): void;
}

/** Who computes the steps of a run: this process, or a cluster that it coordinates. */
export interface RunBackend {
  /** What it keeps in main memory by the size of the model, at most. */
  hostMemory?(layout: ParameterLayout): BytesByUse;
  /** The engine for updates `from + 1` on, of the run that lies (or will lie) at `path`. */
  create(job: TrainingJob, from: number, path: string, tell: Tell): Promise<TrainingEngine>;
  /** Before the first step; the weights are in place. A new run goes again where it throws. */
  begin?(started: StartedRun): Promise<void>;
  /** After the last step or after a failure, also one of `create` or `begin`. */
  end?(how: Ending): Promise<void>;
  /** Ends a worker's connection and returns its name; false when it is gone. Absent where there are no workers. */
  drop?(worker: number): string | false;
  /** It has a share of what others compute confirmed here. */
  readonly audits?: boolean;
  /** How long it may take to finish the step in hand once the end is asked for; without it, as long as it takes. */
  readonly patienceMs?: number;
  /** Who has computed since the last time, for the run's metrics. Absent where this process computes alone. */
  workers?(step: number): WorkersEvent;
  /** Troubles of this start, by name; those that there were. */
  counters?(): Readonly<Record<string, number>>;
  /** After the end; the state is not to be used any more. */
  profile?(): Promise<string>;
}
