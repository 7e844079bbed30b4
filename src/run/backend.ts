import type { RunDirectory } from '../checkpoint/run.js';
import type { ParameterLayout } from '../model/layout.js';
import type { Wire } from '../model/wire.js';
import type { WorkersEvent } from '../report/metrics.js';
import type { TrainingEngine } from '../train/engine.js';
import type { RunControls } from '../watch/server/controls.js';
import type { BytesByUse } from './header.js';
import type { RunJournal } from './journal.js';
import type { TrainingJob } from './prepare.js';
import type { Tell } from './tell.js';

/** How a run ends. */
export type Ending = 'done' | 'stopped' | 'failed';

/** A run whose loop is about to begin. */
export interface StartedRun {
  readonly run: RunDirectory;
  readonly journal: RunJournal;
  readonly controls: RunControls;
  readonly tell: Tell;
  /** Called with true when nobody is there to compute, and with false when somebody is again. */
  waiting(waits: boolean): void;
}

/** What computes the steps of a run: this process, or a cluster that it coordinates. */
export interface RunBackend {
  /** Upper bound of its main memory, by purpose. */
  hostMemory?(layout: ParameterLayout, wire: Wire): BytesByUse;
  /** Makes the engine for steps `from + 1` on. `path`: the run's folder, which need not exist yet. */
  create(job: TrainingJob, from: number, path: string, tell: Tell): Promise<TrainingEngine>;
  /** Called before the first step, when the weights are in place. Where it throws, a new run is removed. */
  begin?(started: StartedRun): Promise<void>;
  /** Called after the last step or after a failure, including one of `create` or `begin`. */
  end?(how: Ending): Promise<void>;
  /**
   * Ends a worker's connection and returns its name; false if it has left already. Absent where there are no workers.
   */
  drop?(worker: number): string | false;
  /** It computes some of the workers' results again here, to confirm them. */
  readonly audits?: boolean;
  /** Milliseconds that the current step may still take once the end is asked for. Absent: no limit. */
  readonly patienceMs?: number;
  /** What workers computed since the call before, for the run's metrics. Absent where this process computes alone. */
  workers?(step: number): WorkersEvent;
  /** Counts of troubles in this start, by name; zeros are left out. */
  counters?(): Readonly<Record<string, number>>;
  /** Called after the end. It changes the state, which must not be used any more. */
  profile?(): Promise<string>;
}
