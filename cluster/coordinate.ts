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
 * Trains a model, or goes on with a run, by workers that join: this process owns the state and takes the steps. Resolves
 * when the run has ended; `hooks.onEvent` is told where workers join (`listening`), and `hooks.signal` ends it early, with a
 * checkpoint. Throws the LantrainError that says what is wrong, see `runTraining`.
 */
export async function coordinate(request: CoordinateRequest, hooks?: RunHooks): Promise<RunResult> {
  const { listen, cert, key, ...own } = settle(CLUSTER_OPTIONS, request);
  const [host, port] = listen === undefined ? [anyAddress()] : listenAddress(listen);
  // Before the long work: a certificate that will not do is none of the run's business.
  if (cert !== undefined) await ownPair(cert, key);
  const isResumed = request.resume !== undefined;
  const settings = { ...own, host, port, cert, key, adapter: request.adapter, isResumed };
  return runTraining(besides(CLUSTER_OPTIONS, request), new ClusterBackend(settings), hooks);
}
