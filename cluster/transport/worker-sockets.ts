import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { WebSocketServer } from 'ws';
import { LantrainError } from '../../src/errors.js';
import type { UpgradeHandler } from '../../src/net/guarded-server.js';
import { personOf } from '../../src/net/person.js';
import { Places, superfluous } from '../../src/net/places.js';
import { peerOf, refuseUpgrade, type UpgradeRefusal, upgradeRefusal } from '../../src/net/upgrade.js';
import { PersonBudgets } from '../../src/util/budget.js';
import type { CoordinatorMessage, WorkerMessage } from '../protocol/protocol.js';
import type { CoordinatorConnection } from './connection.js';
import { coordinatorHandshake } from './handshake.js';
import { DEFAULT_LIMITS, type Limits } from './limits.js';
import { MessageConnection } from './message-connection.js';
import { earnedMs, MessageRules } from './message-rules.js';
import { decodeWorkerMessage } from './messages.js';
import { NodeWire } from './node-wire.js';
import { ReceivePool } from './receive-pool.js';

export interface WorkerSocketsOptions {
  readonly token: string;
  /** The fingerprint that clients know; absent without TLS. */
  readonly tls?: { readonly fingerprint: string };
  /** lantrain's version. */
  readonly version: string;
  readonly limits?: Partial<Limits>;
  /** Called for each authenticated worker. Its messages wait until `onControl` is set. */
  readonly onConnection: (connection: CoordinatorConnection) => void;
  /** Called for each refused connection. */
  readonly onRefused?: (error: LantrainError, peer: string) => void;
}

/**
 * Largest number of fragments of a message, and of chunks from the network: many small ones take far more memory than
 * their bytes.
 */
const MOST_FRAGMENTS = 2 ** 14;

type WorkerSocket = MessageConnection<WorkerMessage, CoordinatorMessage>;

/** A WebSocket whose other side has not proved the token yet. */
interface Pending {
  end(error: LantrainError): void;
}

/** The WebSockets of workers, from the upgrade request to the end of the connection. */
export class WorkerSockets implements UpgradeHandler {
  readonly pool: ReceivePool;
  readonly #connections = new Set<WorkerSocket>();
  readonly #pending: Places<Pending>;
  readonly #limits: Limits;
  readonly #budgets: PersonBudgets;
  readonly #webSockets: WebSocketServer;

  constructor(private readonly options: WorkerSocketsOptions) {
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.#pending = new Places(this.#limits.pending);
    const { msPerSecond, burstMs } = this.#limits.personBudget;
    this.#budgets = new PersonBudgets(msPerSecond, burstMs);
    this.pool = new ReceivePool(this.#limits.receivePoolBytes, this.#limits.messageBytes);
    this.#webSockets = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      maxPayload: this.#limits.messageBytes,
      maxFragments: MOST_FRAGMENTS,
      maxBufferedChunks: MOST_FRAGMENTS,
    });
  }

  /** Authenticated connections. */
  get connections(): ReadonlySet<CoordinatorConnection> {
    return this.#connections;
  }

  /** Number of connections that have not proved the token yet. */
  get pendingCount(): number {
    return this.#pending.size;
  }

  upgrade(request: IncomingMessage, socket: Socket, head: Buffer, proved: () => void): void {
    const person = personOf(peerOf(socket));
    const pending: Pending = { end: () => {} };
    const refusal = this.#refusal(person) ?? this.#wait(pending, person);
    if (refusal !== undefined) {
      this.options.onRefused?.(refusal.error, peerOf(socket));
      refuseUpgrade(socket, refusal);
      return;
    }
    // If `ws` refuses the upgrade, only this event fires.
    socket.once('close', () => this.#pending.leave(pending));
    this.#webSockets.handleUpgrade(request, socket, head, (ws) => {
      const rules = new MessageRules();
      const role = {
        decode: decodeWorkerMessage,
        limits: this.#limits,
        pool: this.pool,
        isGuarded: true,
        personBudget: this.#budgets.of(person),
        check: rules.check.bind(rules),
        earnedMs,
        needsCredit: false,
        // Only browsers send an origin.
        pingsByMessage: request.headers.origin !== undefined,
      };
      const connection = new MessageConnection<WorkerMessage, CoordinatorMessage>(new NodeWire(ws, socket), role);
      pending.end = (error) => connection.close(error);
      void this.#admit(connection, pending, proved);
    });
  }

  close(reason: string): void {
    const goodbye = new LantrainError('LT_CLUSTER_CLOSED', reason);
    for (const connection of this.#connections) connection.close(goodbye);
    for (const pending of this.#pending) pending.end(goodbye);
  }

  #refusal(person: string): UpgradeRefusal | undefined {
    if (this.#hasRoom(person)) return undefined;
    return full(`${this.#connections.size} workers are connected`);
  }

  /** Takes a place among the pending connections; returns the refusal if there is none. */
  #wait(pending: Pending, person: string): UpgradeRefusal | undefined {
    const place = this.#pending.take(pending, person);
    if (place === 'full') return full(`${this.#pending.size} joins are pending`);
    place.leaves?.end(new LantrainError('LT_CLUSTER_LIMIT', 'it took too long to join, and others wait'));
    return undefined;
  }

  #hasRoom(person: string): boolean {
    return this.#connections.size < this.#limits.connections || this.#superfluous(person) !== undefined;
  }

  /**
   * The newest connection of a person with more than half of all places, to be closed for a newcomer of another person.
   */
  #superfluous(newcomer: string): WorkerSocket | undefined {
    return superfluous(this.#connections, ({ person }) => person, this.#limits.connections, newcomer);
  }

  async #admit(connection: WorkerSocket, pending: Pending, proved: () => void): Promise<void> {
    const { token, tls, version } = this.options;
    const late = new LantrainError('LT_CLUSTER_TIMEOUT', 'the handshake was not done in time');
    const timer = setTimeout(() => connection.close(late), this.#limits.handshakeMs);
    try {
      await coordinatorHandshake(connection, { token, version, fingerprint: tls?.fingerprint ?? '' });
      if (!this.#hasRoom(connection.person))
        throw new LantrainError('LT_CLUSTER_LIMIT', `${this.#connections.size} workers are connected already`);
    } catch (error) {
      if (!(error instanceof LantrainError)) throw error;
      const why = connection.endedBy ?? error;
      connection.close(why);
      this.options.onRefused?.(why, connection.peer);
      return;
    } finally {
      clearTimeout(timer);
      this.#pending.leave(pending);
    }
    if (!connection.isOpen) return;
    proved();
    if (this.#connections.size >= this.#limits.connections)
      this.#superfluous(connection.person)?.close(
        new LantrainError('LT_CLUSTER_LIMIT', 'workers of one address have taken most places, and others wait'),
      );
    this.#connections.add(connection);
    connection.onEnd = () => this.#connections.delete(connection);
    connection.authenticated();
    this.options.onConnection(connection);
  }
}

const full = (why: string) => upgradeRefusal('503 Service Unavailable', 'LT_CLUSTER_LIMIT', why);
