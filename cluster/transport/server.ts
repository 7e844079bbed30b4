import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { type AddressInfo, createServer as createProbe, type Socket } from 'node:net';
import { WebSocketServer } from 'ws';
import { LantrainError } from '../../src/errors.js';
import { PersonBudgets } from '../../src/util/budget.js';
import { WATCH_PATH } from '../../src/watch/messages.js';
import type { Watchers } from '../../src/watch/watchers.js';
import { formatJoinUrl } from '../access/join-url.js';
import type { CoordinatorMessage, WorkerMessage } from '../protocol/protocol.js';
import type { CoordinatorConnection } from './connection.js';
import { coordinatorHandshake } from './handshake.js';
import { DEFAULT_LIMITS, type Limits } from './limits.js';
import { listening } from './listening.js';
import { checkPlain } from './loopback.js';
import { WorkerManners } from './manners.js';
import { MessageConnection } from './message-connection.js';
import { decodeWorkerMessage } from './messages.js';
import { NodeWire } from './node-wire.js';
import { personOf } from './person.js';
import { Places, superfluous } from './places.js';
import { ReceivePool } from './receive-pool.js';
import { type StrangerLimits, Strangers } from './strangers.js';
import { foreignOrigin, peerOf, refuseUpgrade, type UpgradeRefusal, upgradeRefusal } from './upgrade.js';

export interface ServerOptions {
  /** Address to listen on; `0.0.0.0` or `::` for all. */
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  readonly token: string;
  /** PEM, and the fingerprint that clients were given; absent: plain ws, on loopback or with `allowPlain`. */
  readonly tls?: { readonly certificate: string; readonly key: string; readonly fingerprint: string };
  readonly allowPlain?: boolean;
  /** lantrain's version. */
  readonly version: string;
  readonly limits?: Partial<Limits>;
  readonly strangers?: Partial<StrangerLimits>;
  /** Names of this machine besides those that `Hosts` knows; absent, those of the environment. */
  readonly names?: readonly string[];
  /** An authenticated worker. Its messages wait until `onControl` is set. */
  readonly onConnection: (connection: CoordinatorConnection) => void;
  /** Somebody who was not let in. */
  readonly onRefused?: (error: LantrainError, peer: string) => void;
  /** Plain HTTP requests, say for a page; by default they are told what this is. */
  readonly onRequest?: RequestListener;
  /** Take the WebSockets of the page. */
  readonly watchers?: Watchers;
}

/** A WebSocket message of so many parts takes far more memory than its bytes: in fragments, and as the network cuts it. */
const MOST_PARTS = 2 ** 14;

type WorkerSocket = MessageConnection<WorkerMessage, CoordinatorMessage>;

/** A WebSocket whose other side has not proved the token yet. */
interface Pending {
  end(error: LantrainError): void;
}

/** The coordinator's end: one port for the WebSockets of workers and, where there are `watchers`, for the page. */
export class ClusterServer {
  readonly pool: ReceivePool;
  readonly #connections = new Set<WorkerSocket>();
  readonly #pending: Places<Pending>;
  readonly #limits: Limits;
  readonly #budgets: PersonBudgets;
  readonly #webSockets: WebSocketServer;

  private constructor(
    readonly http: Server,
    private readonly options: ServerOptions,
    private readonly strangers: Strangers,
  ) {
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
      maxFragments: MOST_PARTS,
      maxBufferedChunks: MOST_PARTS,
    });
    strangers.watch(http);
    http.on('upgrade', (request, socket, head) => this.#upgrade(request, socket as Socket, head));
  }

  /** Throws LT_CLUSTER_PLAIN, or LT_CLUSTER_LISTEN where the address cannot be had. */
  static async listen(options: ServerOptions): Promise<ClusterServer> {
    const { tls, host, port } = options;
    if (tls === undefined) checkPlain(host, options.allowPlain ?? false);
    const strangers = new Strangers({ host, names: options.names, certificate: tls?.certificate }, options.strangers);
    const listener = strangers.only(options.onRequest ?? refuseRequest);
    const common = strangers.serverOptions;
    const http =
      tls === undefined
        ? createServer(common, listener)
        : createSecureServer({ ...common, cert: tls.certificate, key: tls.key, minVersion: 'TLSv1.3' }, listener);
    const server = new ClusterServer(http, options, strangers);
    await listening(http, host, port);
    return server;
  }

  /** Throws LT_CLUSTER_LISTEN where the address cannot be had now; for those with long work before they listen. */
  static async checkAddress(host: string, port: number, advice?: string): Promise<void> {
    const probe = createProbe();
    await listening(probe, host, port, advice);
    await new Promise((closed) => probe.close(closed));
  }

  get port(): number {
    return (this.http.address() as AddressInfo).port;
  }

  /** Authenticated connections. */
  get connections(): ReadonlySet<CoordinatorConnection> {
    return this.#connections;
  }

  get pendingCount(): number {
    return this.#pending.size;
  }

  /** For people and worker processes; it holds the token. */
  joinUrl(host: string): string {
    const { token, tls } = this.options;
    return formatJoinUrl({ secure: tls !== undefined, host, port: this.port, token, fingerprint: tls?.fingerprint });
  }

  /** Says goodbye to every worker and frees the port. */
  async close(reason = 'the coordinator ended'): Promise<void> {
    const goodbye = new LantrainError('LT_CLUSTER_CLOSED', reason);
    this.options.watchers?.close(reason);
    for (const connection of this.#connections) connection.close(goodbye);
    for (const pending of this.#pending) pending.end(goodbye);
    const closed = new Promise<void>((resolve) => this.http.close(() => resolve()));
    const timer = setTimeout(() => this.strangers.destroy(), 1_000);
    await closed;
    clearTimeout(timer);
  }

  #upgrade(request: IncomingMessage, socket: Socket, head: Buffer): void {
    socket.on('error', () => {});
    if (this.strangers.isPipelined(socket)) return;
    this.strangers.upgraded(socket);
    const { watchers, tls } = this.options;
    const stranger = this.strangers.refusal(request) ?? foreignOrigin(request, tls !== undefined);
    if (stranger === undefined && watchers !== undefined && request.url === WATCH_PATH) {
      watchers.upgrade(request, socket, head, () => this.strangers.proved(socket));
      return;
    }
    const person = personOf(peerOf(socket));
    const pending: Pending = { end: () => {} };
    const refusal = stranger ?? this.#refusal(request, person) ?? this.#wait(pending, person);
    if (refusal !== undefined) {
      this.options.onRefused?.(refusal.error, peerOf(socket));
      refuseUpgrade(socket, refusal);
      return;
    }
    // Where `ws` refuses it, nothing is called.
    socket.once('close', () => this.#pending.leave(pending));
    this.#webSockets.handleUpgrade(request, socket, head, (ws) => {
      const manners = new WorkerManners();
      const role = {
        decode: decodeWorkerMessage,
        limits: this.#limits,
        pool: this.pool,
        isGuarded: true,
        personBudget: this.#budgets.of(person),
        check: manners.check.bind(manners),
        needsCredit: false,
        // Only browsers send an origin.
        pingsByMessage: request.headers.origin !== undefined,
      };
      const connection = new MessageConnection<WorkerMessage, CoordinatorMessage>(new NodeWire(ws, socket), role);
      pending.end = (error) => connection.close(error);
      void this.#admit(connection, pending, socket);
    });
  }

  #refusal({ url }: IncomingMessage, person: string): UpgradeRefusal | undefined {
    if (url !== '/') return upgradeRefusal('404 Not Found', 'LT_CLUSTER_URL', 'there is nothing at that path');
    if (this.#hasRoom(person)) return undefined;
    return full(`${this.#connections.size} workers are connected`);
  }

  /** Takes a place among those who have proved nothing yet. */
  #wait(pending: Pending, person: string): UpgradeRefusal | undefined {
    const place = this.#pending.take(pending, person);
    if (place === 'full') return full(`${this.#pending.size} joins are pending`);
    place.leaves?.end(new LantrainError('LT_CLUSTER_LIMIT', 'it took too long to join, and others wait'));
    return undefined;
  }

  #hasRoom(person: string): boolean {
    return this.#connections.size < this.#limits.connections || this.#superfluous(person) !== undefined;
  }

  /** The newest connection of a person who has more than half of all places, for a newcomer who is somebody else. */
  #superfluous(newcomer: string): WorkerSocket | undefined {
    return superfluous(this.#connections, ({ person }) => person, this.#limits.connections, newcomer);
  }

  async #admit(connection: WorkerSocket, pending: Pending, socket: Socket): Promise<void> {
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
    this.strangers.proved(socket);
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

const refuseRequest: RequestListener = (_, response) => {
  response.writeHead(426, { 'Content-Type': 'text/plain', Connection: 'close', Server: 'lantrain' });
  response.end('This is the coordinator of a lantrain run. Workers join it by the command that it printed.\n');
};
