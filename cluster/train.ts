import type { RunHooks, RunResult } from '../src/run/events.js';
import { LocalBackend } from '../src/run/local-backend.js';
import type { TrainRequest } from '../src/run/request.js';
import { runTraining } from '../src/run/session.js';
import { TrainingPage } from './page.js';

/** Address of a page whose request names none: this machine only, a free port. */
const OWN_PAGE = '127.0.0.1:0';

/**
 * Trains a model, or resumes a run, in this process. Resolves when the run has ended; `hooks.signal` ends it early,
 * with a checkpoint. Throws what `runTraining` throws.
 */
export async function train(request: TrainRequest, hooks?: RunHooks): Promise<RunResult> {
  const { watch } = request;
  const where = watch === true ? OWN_PAGE : watch || undefined;
  const page = where === undefined ? undefined : new TrainingPage(where);
  return runTraining(request, new LocalBackend(page), hooks);
}
