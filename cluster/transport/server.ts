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
  /** PEM, and the fingerprint that clients were given; absent: plain ws, on loopback or with `allowPlain`. */
  readonly tls?: { readonly certificate: string; readonly key: string; readonly fingerprint: string };
  readonly allowPlain?: boolean;
  /** Plain HTTP requests, say for a page; by default they are told what this is. */
  readonly onRequest?: RequestListener;
  /** Takers of WebSockets besides the workers', say of the page's, by path. */
  readonly upgrades?: UpgradeHandlers;
}

/** Where workers ask for their WebSocket. */
const WORKER_PATH = '/';

/** The coordinator's end: one port for the WebSockets of workers and for those of `upgrades`. */
export class ClusterServer {
  private constructor(
    private readonly server: GuardedServer,
    private readonly workers: WorkerSockets,
    private readonly options: ServerOptions,
  ) {}

  /** Throws LT_CLUSTER_PLAIN, or LT_CLUSTER_LISTEN where the address cannot be had. */
  static async listen(options: ServerOptions): Promise<ClusterServer> {
    const { tls, host, allowPlain = false, onRequest = refuseRequest, upgrades = [] } = options;
    if (tls === undefined) checkPlain(host, allowPlain);
    const workers = new WorkerSockets(options);
    // The page is told the last news before the workers go.
    const handlers: UpgradeHandlers = new Map([...upgrades, [WORKER_PATH, workers]]);
    const server = await GuardedServer.listen({ ...options, onRequest, upgrades: handlers });
    return new ClusterServer(server, workers, options);
  }

  get port(): number {
    return this.server.port;
  }

  /** What frames of all connections are taken into. */
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

  /** For people and worker processes; it holds the token. */
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
