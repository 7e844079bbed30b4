import type { RunHooks, RunResult } from '../src/run/events.js';
import { LocalBackend } from '../src/run/local-backend.js';
import type { TrainRequest } from '../src/run/request.js';
import { runTraining } from '../src/run/session.js';
import { TrainingPage } from './page.js';

/** The address of a page that was asked for without an address: this machine, a free port. */
const OWN_PAGE = '127.0.0.1:0';

/**
 * Trains a model, or resumes a run, in this process. Resolves when the run has ended. `hooks.signal` stops it early,
 * with a checkpoint.
 *
 * Throws a LantrainError that says what is wrong, such as LT_USAGE_OPTION, LT_USAGE_PRESET, LT_USAGE_MODEL,
 * LT_USAGE_BATCH, LT_DATA_MISSING, LT_GPU_NONE, LT_GPU_MEMORY, LT_RUN_EXISTS, LT_RUN_LOCKED, LT_RUN_MISMATCH,
 * LT_RUN_WRITE or LT_TRAIN_NONFINITE. Throws LT_RUN_STOPPED where it is stopped before its first step; a new run's
 * folder is then removed.
 */
export async function train(request: TrainRequest, hooks?: RunHooks): Promise<RunResult> {
  const { watch } = request;
  const where = watch === true ? OWN_PAGE : watch || undefined;
  const page = where === undefined ? undefined : new TrainingPage(where);
  return runTraining(request, new LocalBackend(page), hooks);
}
