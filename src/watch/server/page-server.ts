import { GuardedServer, type GuardedServerOptions } from '../../net/guarded-server.js';
import { WATCH_PATH } from '../messages.js';
import { serveSite } from './site.js';
import type { Watchers } from './watchers.js';

export interface PageServerOptions extends Omit<GuardedServerOptions, 'onRequest' | 'upgrades' | 'advice'> {
  /** The folder of the bundled page. */
  readonly site: string;
  readonly watchers: Watchers;
  /** The option that chooses the port, for the error message where the port is not available. */
  readonly option?: string;
}

export type PageServer = Pick<GuardedServer, 'port' | 'close'>;

/** Serves only the page of a run, without a coordinator. Throws LT_CLUSTER_LISTEN where the port is not available. */
export function servePage({ site, watchers, option, ...options }: PageServerOptions): Promise<PageServer> {
  return GuardedServer.listen({
    ...options,
    onRequest: serveSite(site),
    upgrades: new Map([[WATCH_PATH, watchers]]),
    advice: `choose another ${option ?? 'HOST:PORT'}`,
  });
}
