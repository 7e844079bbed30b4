import { ownPair } from '../src/net/access.js';
import { listenAddress } from '../src/node/lan-address.js';
import { anyAddress } from '../src/node/reachable.js';
import type { RunHooks, RunResult } from '../src/run/events.js';
import { runTraining } from '../src/run/session.js';
import { besides, settle } from '../src/train/option-table.js';
import { ClusterBackend } from './cluster-backend.js';
import { CLUSTER_OPTIONS } from './cluster-options.js';
import type { CoordinateRequest } from './request.js';

/**
 * Trains a model, or resumes a run, with workers that join. This process owns the state and takes the steps. Resolves
 * when the run has ended. `hooks.onEvent` is told where workers can join (`listening`). `hooks.signal` stops the run
 * early, with a checkpoint.
 *
 * Throws a LantrainError as `train` does; also LT_CLUSTER_LISTEN where the address is not available,
 * LT_CLUSTER_CERTIFICATE or LT_CLUSTER_ACCESS for the user's own certificate.
 */
export async function coordinate(request: CoordinateRequest, hooks?: RunHooks): Promise<RunResult> {
  const { listen, cert, key, ...own } = settle(CLUSTER_OPTIONS, request);
  const [host, port] = listen === undefined ? [anyAddress()] : listenAddress(listen);
  // Checked before the long work.
  if (cert !== undefined) await ownPair(cert, key);
  const isResumed = request.resume !== undefined;
  const settings = { ...own, host, port, cert, key, adapter: request.adapter, isResumed };
  return runTraining(besides(CLUSTER_OPTIONS, request), new ClusterBackend(settings), hooks);
}
