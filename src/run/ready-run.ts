import type { RunDirectory } from '../checkpoint/run.js';
import type { MetricsEvent } from '../report/metrics.js';
import type { TrainingEngine } from '../train/engine.js';
import type { RunClock } from '../train/run-clock.js';
import type { Trainer } from '../train/trainer.js';
import type { RunBackend } from './backend.js';
import type { RunHooks } from './events.js';
import type { TrainingJob } from './prepare.js';
import type { TrainRequest } from './request.js';
import type { StopRequest } from './stop.js';
import type { Tell } from './tell.js';

/** The request of a run, its backend and its listeners. */
export interface RunContext {
  readonly request: TrainRequest;
  readonly backend: RunBackend;
  readonly hooks: RunHooks;
  readonly stop: StopRequest;
  readonly tell: Tell;
  readonly clock: RunClock;
}

/** A run that is ready for its training loop. */
export interface ReadyRun extends RunContext {
  readonly job: TrainingJob;
  readonly engine: TrainingEngine;
  readonly trainer: Trainer;
  readonly run: RunDirectory;
  readonly isNew: boolean;
  /** Steps that are done already; 0 for a new run. */
  readonly from: number;
  /** The events in its metrics.jsonl so far. */
  readonly past: readonly MetricsEvent[];
}
