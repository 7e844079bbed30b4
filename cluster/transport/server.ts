import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import { type AddressInfo, createServer as createProbe, type Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { WebSocketServer } from 'ws';
import { LantrainError } from '../../src/errors.js';
import { WATCH_PATH } from '../dashboard/messages.js';
import type { Watchers } from '../dashboard/watchers.js';
import { formatJoinUrl } from '../join-url.js';
import { type CoordinatorMessage, decodeWorkerMessage, type WorkerMessage } from '../protocol.js';
import type { CoordinatorConnection } from './connection.js';
import { coordinatorHandshake } from './handshake.js';
import { DEFAULT_LIMITS, type Limits } from './limits.js';
import { listening } from './listening.js';
import { checkPlain } from './loopback.js';
import { MessageConnection } from './message-connection.js';
import { NodeWire } from './node-wire.js';
import { ReceivePool } from './receive-pool.js';
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
  /** An authenticated worker. Its messages wait until `onControl` is set. */
  readonly onConnection: (connection: CoordinatorConnection) => void;
  /** Somebody who was not let in. */
  readonly onRefused?: (error: LantrainError, peer: string) => void;
  /** Plain HTTP requests, say for a page; by default they are told what this is. */
  readonly onRequest?: RequestListener;
  /** Take the WebSockets of the page. */
  readonly watchers?: Watchers;
}

/** What an HTTP request may take before it becomes a WebSocket. */
const HTTP_MS = 10_000;
const HEADER_BYTES = 8192;
/** Sockets that are neither authenticated nor in a handshake: HTTP requests and TLS handshakes. */
const SPARE_SOCKETS = 64;

type WorkerSocket = MessageConnection<WorkerMessage, CoordinatorMessage>;

/** The coordinator's end: one port for the WebSockets of workers and, where there are `watchers`, for the page. */
export class ClusterServer {
  readonly pool: ReceivePool;
  readonly #connections = new Set<WorkerSocket>();
  readonly #pending = new Set<WorkerSocket>();
  readonly #sockets = new Set<Duplex>();
  readonly #limits: Limits;
  readonly #webSockets: WebSocketServer;

  private constructor(
    readonly http: Server,
    private readonly options: ServerOptions,
  ) {
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.pool = new ReceivePool(this.#limits.receivePoolBytes);
    this.#webSockets = new WebSocketServer({
      noServer: true,
      clientTracking: false,
      perMessageDeflate: false,
      maxPayload: this.#limits.messageBytes,
    });
    http.maxConnections =
      this.#limits.connections + this.#limits.pending + (options.watchers?.most ?? 0) + SPARE_SOCKETS;
    http.headersTimeout = HTTP_MS;
    http.requestTimeout = HTTP_MS;
    http.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.on('close', () => this.#sockets.delete(socket));
    });
    http.on('upgrade', (request, socket, head) => this.#upgrade(request, socket as Socket, head));
  }

  /** Throws LT_CLUSTER_PLAIN, or LT_CLUSTER_LISTEN where the address cannot be had. */
  static async listen(options: ServerOptions): Promise<ClusterServer> {
    const { tls, host, port } = options;
    if (tls === undefined) checkPlain(host, options.allowPlain ?? false);
    const common = { maxHeaderSize: HEADER_BYTES, keepAliveTimeout: 5_000 };
    const onRequest = options.onRequest ?? refuseRequest;
    const http =
      tls === undefined
        ? createServer(common, onRequest)
        : createSecureServer(
            { ...common, cert: tls.certificate, key: tls.key, handshakeTimeout: HTTP_MS, minVersion: 'TLSv1.3' },
            onRequest,
          );
    const server = new ClusterServer(http, options);
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
    for (const connection of [...this.#connections, ...this.#pending]) connection.close(goodbye);
    const closed = new Promise<void>((resolve) => this.http.close(() => resolve()));
    const timer = setTimeout(() => {
      for (const socket of this.#sockets) socket.destroy();
    }, 1_000);
    await closed;
    clearTimeout(timer);
  }

  #upgrade(request: IncomingMessage, socket: Socket, head: Buffer): void {
    socket.on('error', () => {});
    const { watchers, tls } = this.options;
    const foreign = foreignOrigin(request, tls !== undefined);
    if (foreign === undefined && watchers !== undefined && request.url === WATCH_PATH) {
      watchers.upgrade(request, socket, head);
      return;
    }
    const refusal = foreign ?? this.#refusal(request);
    if (refusal !== undefined) {
      this.options.onRefused?.(refusal.error, peerOf(socket));
      refuseUpgrade(socket, refusal);
      return;
    }
    this.#webSockets.handleUpgrade(request, socket, head, (ws) => {
      const role = {
        decode: decodeWorkerMessage,
        limits: this.#limits,
        pool: this.pool,
        isGuarded: true,
        needsCredit: false,
        // Only browsers send an origin.
        pingsByMessage: request.headers.origin !== undefined,
      };
      void this.#admit(new MessageConnection<WorkerMessage, CoordinatorMessage>(new NodeWire(ws, socket), role));
    });
  }

  #refusal({ url }: IncomingMessage): UpgradeRefusal | undefined {
    if (url !== '/') return upgradeRefusal('404 Not Found', 'LT_CLUSTER_URL', 'there is nothing at that path');
    const full = (why: string) => upgradeRefusal('503 Service Unavailable', 'LT_CLUSTER_LIMIT', why);
    if (this.#connections.size >= this.#limits.connections)
      return full(`${this.#connections.size} workers are connected`);
    if (this.#pending.size >= this.#limits.pending) return full(`${this.#pending.size} joins are pending`);
    return undefined;
  }

  async #admit(connection: WorkerSocket): Promise<void> {
    const { token, tls, version } = this.options;
    const late = new LantrainError('LT_CLUSTER_TIMEOUT', 'the handshake was not done in time');
    const timer = setTimeout(() => connection.close(late), this.#limits.handshakeMs);
    this.#pending.add(connection);
    try {
      await coordinatorHandshake(connection, { token, version, fingerprint: tls?.fingerprint ?? '' });
      if (this.#connections.size >= this.#limits.connections)
        throw new LantrainError('LT_CLUSTER_LIMIT', `${this.#connections.size} workers are connected already`);
    } catch (error) {
      if (!(error instanceof LantrainError)) throw error;
      const why = connection.endedBy ?? error;
      connection.close(why);
      this.options.onRefused?.(why, connection.peer);
      return;
    } finally {
      clearTimeout(timer);
      this.#pending.delete(connection);
    }
    if (!connection.isOpen) return;
    this.#connections.add(connection);
    connection.onEnd = () => this.#connections.delete(connection);
    connection.authenticated();
    this.options.onConnection(connection);
  }
}

const refuseRequest: RequestListener = (_, response) => {
  response.writeHead(426, { 'Content-Type': 'text/plain', Connection: 'close', Server: 'lantrain' });
  response.end('This is the coordinator of a lantrain run. Workers join it by the command that it printed.\n');
};
