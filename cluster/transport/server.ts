import type { RequestListener } from 'node:http';
import { GuardedServer, type GuardedServerOptions, type UpgradeHandlers } from '../../src/net/guarded-server.js';
import { formatJoinUrl } from '../../src/net/join-url.js';
import { checkPlain } from '../../src/net/loopback.js';
import type { CoordinatorConnection } from './connection.js';
import type { ReceivePool } from './receive-pool.js';
import { WorkerSockets, type WorkerSocketsOptions } from './worker-sockets.js';

export interface ServerOptions
  extends WorkerSocketsOptions,
    Omit<GuardedServerOptions, 'tls' | 'onRequest' | 'upgrades' | 'onRefused' | 'advice'> {
  /** PEM, and the fingerprint that clients know. Absent: plain ws, on loopback or with `allowPlain`. */
  readonly tls?: { readonly certificate: string; readonly key: string; readonly fingerprint: string };
  readonly allowPlain?: boolean;
  /** Handler of plain HTTP requests, for example for a page. By default they are told what this server is. */
  readonly onRequest?: RequestListener;
  /** Handlers of other WebSockets than the workers', by path, for example the page's. */
  readonly upgrades?: UpgradeHandlers;
}

/** Path of the workers' WebSockets. */
const WORKER_PATH = '/';

/** The coordinator's server: one port for the WebSockets of workers and of `upgrades`. */
export class ClusterServer {
  private constructor(
    private readonly server: GuardedServer,
    private readonly workers: WorkerSockets,
    private readonly options: ServerOptions,
  ) {}

  /** Throws LT_CLUSTER_PLAIN, or LT_CLUSTER_LISTEN if the address is not available. */
  static async listen(options: ServerOptions): Promise<ClusterServer> {
    const { tls, host, allowPlain = false, onRequest = refuseRequest, upgrades = [] } = options;
    if (tls === undefined) checkPlain(host, allowPlain);
    const workers = new WorkerSockets(options);
    // The page comes first, so that it gets the last news before the workers are closed.
    const handlers: UpgradeHandlers = new Map([...upgrades, [WORKER_PATH, workers]]);
    const server = await GuardedServer.listen({ ...options, onRequest, upgrades: handlers });
    return new ClusterServer(server, workers, options);
  }

  get port(): number {
    return this.server.port;
  }

  /** The pool for frames of all connections. */
  get pool(): ReceivePool {
    return this.workers.pool;
  }

  /** Authenticated connections. */
  get connections(): ReadonlySet<CoordinatorConnection> {
    return this.workers.connections;
  }

  get pendingCount(): number {
    return this.workers.pendingCount;
  }

  /** The join URL, for people and worker processes. It contains the token. */
  joinUrl(host: string): string {
    const { token, tls } = this.options;
    return formatJoinUrl({ secure: tls !== undefined, host, port: this.port, token, fingerprint: tls?.fingerprint });
  }

  /** Says goodbye to every worker and frees the port. */
  close(reason = 'the coordinator ended'): Promise<void> {
    return this.server.close(reason);
  }
}

const refuseRequest: RequestListener = (_, response) => {
  response.writeHead(426, { 'Content-Type': 'text/plain', Connection: 'close', Server: 'lantrain' });
  response.end('This is the coordinator of a lantrain run. Workers join it by the command that it printed.\n');
};
