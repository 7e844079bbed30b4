import type { RunHooks, RunResult } from '../src/run/events.js';
import { LocalBackend } from '../src/run/local-backend.js';
import type { TrainRequest } from '../src/run/request.js';
import { runTraining } from '../src/run/session.js';
import { TrainingPage } from './page.js';

/** Where a page is served that was asked for without saying where: for this machine, at a free port. */
const OWN_PAGE = '127.0.0.1:0';

/**
 * Trains a model, or goes on with a run, in this process, and resolves when it has ended: `hooks.signal` ends it early,
 * with a checkpoint. Throws the LantrainError that says what is wrong, see `runTraining`.
 */
export async function train(request: TrainRequest, hooks?: RunHooks): Promise<RunResult> {
  const { watch } = request;
  const where = watch === true ? OWN_PAGE : watch || undefined;
  const page = where === undefined ? undefined : new TrainingPage(where);
  return runTraining(request, new LocalBackend(page), hooks);
}
