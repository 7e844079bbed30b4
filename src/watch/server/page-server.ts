import { createServer } from 'node:http';
import { createServer as createSecureServer } from 'node:https';
import type { AddressInfo, Socket } from 'node:net';
import type { LantrainError } from '../../errors.js';
import { listening } from '../../net/listening.js';
import { type StrangerLimits, Strangers } from '../../net/strangers.js';
import { foreignOrigin, peerOf, refuseUpgrade, upgradeRefusal } from '../../net/upgrade.js';
import { WATCH_PATH } from '../messages.js';
import { serveSite } from './site.js';
import type { Watchers } from './watchers.js';

export interface PageServerOptions {
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  readonly tls?: { readonly certificate: string; readonly key: string };
  /** The folder of the bundled page. */
  readonly site: string;
  readonly watchers: Watchers;
  /** What chooses another port, for the message where this one cannot be had. */
  readonly option?: string;
  /** Names of this machine besides those that `Hosts` knows; absent, those of the environment. */
  readonly names?: readonly string[];
  readonly strangers?: Partial<StrangerLimits>;
  readonly onRefused?: (error: LantrainError, peer: string) => void;
}

export interface PageServer {
  readonly port: number;
  close(reason: string): Promise<void>;
}

/** A port with the page of a run and nothing else, where no coordinator listens. Throws LT_CLUSTER_LISTEN. */
export async function servePage(options: PageServerOptions): Promise<PageServer> {
  const { host, port, tls, watchers } = options;
  const strangers = new Strangers({ host, names: options.names, certificate: tls?.certificate }, options.strangers);
  const common = strangers.serverOptions;
  const site = strangers.only(serveSite(options.site));
  const http =
    tls === undefined
      ? createServer(common, site)
      : createSecureServer({ ...common, cert: tls.certificate, key: tls.key, minVersion: 'TLSv1.3' }, site);
  strangers.watch(http);
  http.on('upgrade', (request, duplex, head) => {
    const socket = duplex as Socket;
    socket.on('error', () => {});
    if (strangers.isPipelined(socket)) return;
    strangers.upgraded(socket);
    const nothing = upgradeRefusal('404 Not Found', 'LT_CLUSTER_URL', 'there is nothing at that path');
    const refusal =
      strangers.refusal(request) ??
      foreignOrigin(request, tls !== undefined) ??
      (request.url === WATCH_PATH ? undefined : nothing);
    if (refusal === undefined) watchers.upgrade(request, socket, head, () => strangers.proved(socket));
    else {
      options.onRefused?.(refusal.error, peerOf(socket));
      refuseUpgrade(socket, refusal);
    }
  });
  await listening(http, host, port, `choose another ${options.option ?? 'HOST:PORT'}`);
  return {
    port: (http.address() as AddressInfo).port,
    close: async (reason) => {
      watchers.close(reason);
      const closed = new Promise<void>((resolve) => http.close(() => resolve()));
      const timer = setTimeout(() => strangers.destroy(), 1_000);
      await closed;
      clearTimeout(timer);
    },
  };
}
