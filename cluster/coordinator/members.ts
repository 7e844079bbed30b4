import { LantrainError } from '../../src/errors.js';
import { emptyTotals, type WorkerTotals } from '../../src/report/worker-totals.js';
import type { CoordinatorMessage } from '../protocol/protocol.js';
import { OWNER, type WorkerId } from '../round/round.js';
import type { CoordinatorConnection } from '../transport/connection.js';
import type { Probe } from '../worker/bit-class.js';
import type { Contributor } from '../worker/worker-tally.js';
import type { SendQueue } from './weights-out.js';

/** What the owner is called among its workers; no worker is called so. */
export const OWNER_NAME = 'the owner';

/** The newest assignment of a worker, as far as it has told of it; for whoever shows it. */
export interface Doing {
  readonly kind: 'nothing' | 'step' | 'evaluate';
  readonly assignment: number;
  readonly dealt: number;
  done: number;
  /** Contributions come in. */
  uploading: boolean;
}

export const NOTHING: Doing = { kind: 'nothing', assignment: 0, dealt: 0, done: 0, uploading: false };

/** A worker as the coordinator's shell knows it, from when the transport has authenticated it. */
export interface RemoteWorker {
  readonly id: WorkerId;
  readonly connection: CoordinatorConnection;
  name: string;
  adapter: string;
  /** What people call its class; empty until it is known. */
  bitClass: string;
  /** What it still owes before it can be a worker: `join`, then the hash of each probe. */
  readonly owes: Set<'join' | Probe>;
  readonly hashes: { -readonly [P in Probe]?: string };
  /** It was handed to the round. */
  joined: boolean;
  readonly sendQueue: SendQueue;
  doing: Doing;
  /** Since it is here. */
  readonly totals: WorkerTotals;
  /** When it said last where its time went. */
  reportedAt: number;
}

const MOST_GONE = 256;

/** The workers that are connected, and the names of those that were. */
export class Members {
  readonly #all = new Map<WorkerId, RemoteWorker>();
  /** Names of the last ones that left: what they sent before may be found wrong only now. */
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

  /** It has left; of one that was a member, the name is kept. */
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

  /** Tells everybody who was handed to the round, or with `alsoUnjoined` who is connected. */
  tellAll(message: CoordinatorMessage, alsoUnjoined = false): void {
    for (const { connection, joined } of this.#all.values())
      if ((joined || alsoUnjoined) && connection.isOpen) connection.send(message);
  }

  /** Ends a worker's connection, for good as far as it is honest. Returns its name; false when it is gone. */
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
