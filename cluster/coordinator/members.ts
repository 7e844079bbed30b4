import { LantrainError } from '../../src/errors.js';
import { emptyTotals, type WorkerTotals } from '../../src/report/worker-totals.js';
import type { CoordinatorMessage } from '../protocol/protocol.js';
import { OWNER, type WorkerId } from '../round/round.js';
import type { CoordinatorConnection } from '../transport/connection.js';
import type { Probe } from '../worker/bit-class.js';
import type { Contributor } from '../worker/worker-tally.js';
import type { SendQueue } from './weights-out.js';

/** The owner's name among its workers; no worker may have it. */
export const OWNER_NAME = 'the owner';

/** The progress of a worker's newest assignment, for display. */
export interface Doing {
  readonly kind: 'nothing' | 'step' | 'evaluate';
  readonly assignment: number;
  readonly dealt: number;
  done: number;
  /** Contributions have begun to arrive. */
  uploading: boolean;
}

export const NOTHING: Doing = { kind: 'nothing', assignment: 0, dealt: 0, done: 0, uploading: false };

/** A worker as the coordinator's shell knows it, from its authentication on. */
export interface RemoteWorker {
  readonly id: WorkerId;
  readonly connection: CoordinatorConnection;
  name: string;
  adapter: string;
  /** Readable name of its bit class; empty until it is known. */
  bitClass: string;
  /** Messages that it must still send before it is admitted: `join`, then the hash of each probe. */
  readonly owes: Set<'join' | Probe>;
  readonly hashes: { -readonly [P in Probe]?: string };
  /** It was passed to the round. */
  joined: boolean;
  readonly sendQueue: SendQueue;
  doing: Doing;
  /** Totals since it connected. */
  readonly totals: WorkerTotals;
  /** When it last sent `stats`. */
  reportedAt: number;
}

const MOST_GONE = 256;

/** The connected workers, and the names of departed ones. */
export class Members {
  readonly #all = new Map<WorkerId, RemoteWorker>();
  /** Names of the workers that left last: what they sent may be found wrong later. */
  readonly #namesOfGone = new Map<WorkerId, string>();

  get all(): ReadonlyMap<WorkerId, RemoteWorker> {
    return this.#all;
  }

  add(connection: CoordinatorConnection, sendQueue: SendQueue): RemoteWorker {
    const { id } = connection;
    const member: RemoteWorker = {
      id,
      connection,
      name: `worker ${id}`,
      adapter: '',
      bitClass: '',
      owes: new Set(['join', 'reference', 'run']),
      hashes: {},
      joined: false,
      sendQueue,
      doing: NOTHING,
      totals: emptyTotals(),
      reportedAt: performance.now(),
    };
    this.#all.set(id, member);
    return member;
  }

  get(worker: WorkerId): RemoteWorker | undefined {
    return this.#all.get(worker);
  }

  nameOf(worker: WorkerId): string {
    if (worker === OWNER) return OWNER_NAME;
    return this.#all.get(worker)?.name ?? this.#namesOfGone.get(worker) ?? `worker ${worker}`;
  }

  /** Removes a worker that has left. Keeps its name if it was admitted. */
  remove(worker: WorkerId): void {
    const member = this.#all.get(worker);
    if (member === undefined) return;
    this.#all.delete(worker);
    if (!member.joined) return;
    this.#namesOfGone.set(worker, member.name);
    const [oldest] = this.#namesOfGone.keys();
    if (this.#namesOfGone.size > MOST_GONE) this.#namesOfGone.delete(oldest);
  }

  tell(worker: WorkerId, message: CoordinatorMessage): void {
    const connection = this.#all.get(worker)?.connection;
    if (connection?.isOpen) connection.send(message);
  }

  /** Sends a message to every admitted worker, and with `alsoUnjoined` to every connected one. */
  tellAll(message: CoordinatorMessage, alsoUnjoined = false): void {
    for (const { connection, joined } of this.#all.values())
      if ((joined || alsoUnjoined) && connection.isOpen) connection.send(message);
  }

  /** Ends a worker's connection; an honest worker does not come back. Returns its name; false if it has left. */
  drop(worker: WorkerId): string | false {
    const member = this.#all.get(worker);
    if (member === undefined) return false;
    member.connection.close(
      new LantrainError('LT_CLUSTER_DROPPED', 'whoever controls the run has dropped this worker'),
    );
    return member.name;
  }
}

export function contributorOf({ name, adapter, bitClass }: RemoteWorker): Contributor {
  return { name, adapter, bitClass };
}
