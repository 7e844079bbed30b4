import { LantrainError } from '../../src/errors.js';
import type { WorkerConnection } from '../transport/connection.js';
import type { WorkerNote, WorkerOptions } from './options.js';
import { Worker } from './worker.js';

export type SessionNote =
  | WorkerNote
  | { readonly note: 'joined' }
  /** The connection was lost and it tries again. Reported once, not at every try. */
  | { readonly note: 'lost'; readonly reason: string };

export interface WorkerSessionOptions extends Omit<WorkerOptions, 'onNote'> {
  readonly connect: () => Promise<WorkerConnection>;
  /** Milliseconds without a coordinator before it gives up; 0: never. */
  readonly patienceMs: number;
  readonly onNote: (note: SessionNote) => void;
}

const RETRY_MS = 1000;
const MOST_RETRY_MS = 10_000;

/** Errors that may pass when the coordinator restarts or the network recovers. */
const RETRYABLE: ReadonlySet<string> = new Set([
  'LT_CLUSTER_CLOSED',
  'LT_CLUSTER_CONNECT',
  'LT_CLUSTER_TIMEOUT',
  'LT_CLUSTER_LIMIT',
  // The process was stopped or swapped out for a while.
  'LT_CLUSTER_SLOW',
  'LT_CLUSTER_SILENT',
]);

/** Whether a retry may succeed. `wasIn`: the URL has worked before. */
function mayPass({ code }: LantrainError, wasIn: boolean): boolean {
  // The machine may be on another network, or another program may hold the port for a while.
  return RETRYABLE.has(code) || (wasIn && code === 'LT_CLUSTER_FOREIGN');
}

/**
 * A worker's session with a run, in Node or in a tab: it works until the run is done and reconnects after a lost
 * connection.
 */
export class WorkerSession {
  #worker: Worker | undefined;
  #leaving = false;
  #stopWaiting: () => void = () => {};

  constructor(private readonly options: WorkerSessionOptions) {}

  /** Leaves in good order as soon as possible. */
  leave(): void {
    this.#leaving = true;
    this.#worker?.leave('it was stopped');
    this.#stopWaiting();
  }

  /** Ends a wait before the next try: the network is back, or the device is awake. */
  wake(): void {
    this.#stopWaiting();
  }

  /** Throws errors that a retry cannot fix. */
  async run(): Promise<'done' | 'left'> {
    const { engines, patienceMs, onNote } = this.options;
    let lostAt = performance.now();
    let told = '';
    let wasIn = false;
    let retry = RETRY_MS;
    let worked = false;
    // The delay is reset once the weights are ready, not at the join: a coordinator that sends it away at once is
    // retried as seldom as an absent one.
    const onWorkerNote = (note: WorkerNote) => {
      if (note.note === 'ready') [retry, worked] = [RETRY_MS, true];
      onNote(note);
    };
    while (!this.#leaving) {
      try {
        worked = false;
        const connection = await this.options.connect();
        const joinedAt = performance.now();
        onNote({ note: 'joined' });
        wasIn = true;
        told = '';
        this.#worker = new Worker(connection, { ...this.options, onNote: onWorkerNote });
        if (this.#leaving) this.#worker.leave('it was stopped');
        const end = await this.#worker.run();
        this.#worker = undefined;
        engines.gpu.check();
        // A worker that compiles kernels for minutes has a coordinator meanwhile.
        if (worked || performance.now() - joinedAt > MOST_RETRY_MS) lostAt = performance.now();
        if (this.#leaving) break;
        if (end.code === 'LT_CLUSTER_DONE') return 'done';
        throw end;
      } catch (error) {
        if (!(error instanceof LantrainError) || !mayPass(error, wasIn)) throw error;
        if (patienceMs > 0 && performance.now() - lostAt > patienceMs) throw error;
        if (error.message !== told) onNote({ note: 'lost', reason: error.message });
        told = error.message;
      }
      if (this.#leaving) break;
      await new Promise<void>((go) => {
        this.#stopWaiting = go;
        setTimeout(go, retry);
      });
      retry = Math.min(2 * retry, MOST_RETRY_MS);
    }
    return 'left';
  }
}
