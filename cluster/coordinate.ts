import { LantrainError } from '../src/errors.js';
import { ownPair } from '../src/net/access.js';
import { listenAddress } from '../src/node/lan-address.js';
import { anyAddress } from '../src/node/reachable.js';
import type { RunHooks, RunResult } from '../src/run/events.js';
import { runTraining } from '../src/run/session.js';
import { ClusterBackend } from './cluster-backend.js';
import type { CoordinateRequest } from './request.js';
import { DEFAULT_LIMITS } from './transport/limits.js';

/**
 * Trains a model, or goes on with a run, by workers that join: this process owns the state and takes the steps. Resolves
 * when the run has ended; `hooks.onEvent` is told where workers join (`listening`), and `hooks.signal` ends it early, with a
 * checkpoint. Throws the LantrainError that says what is wrong, see `runTraining`.
 */
export async function coordinate(request: CoordinateRequest, hooks?: RunHooks): Promise<RunResult> {
  const { listen, minWorkers = 1, exact = false, audit = 0, plain = false, cert, key, ...run } = request;
  const [host, port] = listen === undefined ? [anyAddress()] : listenAddress(listen);
  if (!(audit >= 0 && audit <= 1))
    throw new LantrainError('LT_USAGE_OPTION', `--audit ${audit}: it is a share, from 0 to 1`);
  const most = DEFAULT_LIMITS.connections;
  if (!(Number.isInteger(minWorkers) && minWorkers >= 1 && minWorkers <= most))
    throw new LantrainError('LT_USAGE_OPTION', `--min-workers ${minWorkers}: it is a whole number from 1 to ${most}`);
  // Before the long work: a certificate that will not do is none of the run's business.
  if (cert !== undefined) await ownPair(cert, key);
  const { adapter } = run;
  const isResumed = run.resume !== undefined;
  const settings = { host, port, minWorkers, exact, audit, plain, cert, key, adapter, isResumed };
  return runTraining(run, new ClusterBackend(settings), hooks);
}
