import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { LantrainError } from '../errors.js';
import { listening } from './listening.js';
import { type StrangerLimits, Strangers } from './strangers.js';
import { foreignOrigin, peerOf, refuseUpgrade, upgradeRefusal } from './upgrade.js';

/** Handles the WebSockets of one path. */
export interface UpgradeHandler {
  /**
   * `request` is for this machine and comes from a page of this origin or from no page. Call `proved` once the other
   * side has proved a token; until then it counts as a stranger.
   */
  upgrade(request: IncomingMessage, socket: Socket, head: Buffer, proved: () => void): void;
  /** Closes all of them with `reason`. */
  close(reason: string): void;
}

/** Handlers by path, such as `/watch`. */
export type UpgradeHandlers = ReadonlyMap<string | undefined, UpgradeHandler>;

export interface GuardedServerOptions {
  /** Address to listen on; `0.0.0.0` or `::` for all. */
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  /** PEM; plain HTTP where absent. */
  readonly tls?: { readonly certificate: string; readonly key: string };
  /** Further names of this machine, see `Hosts`; default: those of the environment. */
  readonly names?: readonly string[];
  readonly strangers?: Partial<StrangerLimits>;
  readonly onRequest: RequestListener;
  readonly upgrades: UpgradeHandlers;
  /** Called for a WebSocket request that reached no handler. */
  readonly onRefused?: (error: LantrainError, peer: string) => void;
  /** What to do where the port is not available, for the error message. */
  readonly advice?: string;
}

/** Milliseconds after which connections that are still open are cut. */
const CLOSE_MS = 1_000;

/** A server for plain requests and WebSockets, with the limits of `Strangers` on connections without a proved token. */
export class GuardedServer {
  private constructor(
    private readonly http: Server,
    private readonly strangers: Strangers,
    private readonly options: GuardedServerOptions,
  ) {
    strangers.watch(http);
    http.on('upgrade', (request, socket, head) => this.#upgrade(request, socket as Socket, head));
  }

  /** Throws LT_CLUSTER_LISTEN where the address is not available. */
  static async listen(options: GuardedServerOptions): Promise<GuardedServer> {
    const { tls, host, port, names, advice } = options;
    const strangers = new Strangers({ host, names, certificate: tls?.certificate }, options.strangers);
    const listener = strangers.only(options.onRequest);
    const common = strangers.serverOptions;
    const http =
      tls === undefined
        ? createServer(common, listener)
        : createSecureServer({ ...common, cert: tls.certificate, key: tls.key, minVersion: 'TLSv1.3' }, listener);
    const server = new GuardedServer(http, strangers, options);
    await listening(http, host, port, advice);
    return server;
  }

  get port(): number {
    return (this.http.address() as AddressInfo).port;
  }

  /** Closes all handlers and frees the port. */
  async close(reason: string): Promise<void> {
    for (const handler of this.options.upgrades.values()) handler.close(reason);
    const closed = new Promise<void>((resolve) => this.http.close(() => resolve()));
    const timer = setTimeout(() => this.strangers.destroy(), CLOSE_MS);
    await closed;
    clearTimeout(timer);
  }

  #upgrade(request: IncomingMessage, socket: Socket, head: Buffer): void {
    socket.on('error', () => {});
    if (this.strangers.isPipelined(socket)) return;
    this.strangers.upgraded(socket);
    const { upgrades, tls, onRefused } = this.options;
    const stranger = this.strangers.refusal(request) ?? foreignOrigin(request, tls !== undefined);
    const handler = upgrades.get(request.url);
    if (stranger === undefined && handler !== undefined) {
      handler.upgrade(request, socket, head, () => this.strangers.proved(socket));
      return;
    }
    const refusal = stranger ?? upgradeRefusal('404 Not Found', 'LT_CLUSTER_URL', 'there is nothing at that path');
    onRefused?.(refusal.error, peerOf(socket));
    refuseUpgrade(socket, refusal);
  }
}
