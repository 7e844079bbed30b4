import { GuardedServer, type GuardedServerOptions } from '../../net/guarded-server.js';
import { WATCH_PATH } from '../messages.js';
import { serveSite } from './site.js';
import type { Watchers } from './watchers.js';

export interface PageServerOptions extends Omit<GuardedServerOptions, 'onRequest' | 'upgrades' | 'advice'> {
  /** The folder of the bundled page. */
  readonly site: string;
  readonly watchers: Watchers;
  /** What chooses another port, for the message where this one cannot be had. */
  readonly option?: string;
}

export type PageServer = Pick<GuardedServer, 'port' | 'close'>;

/** A port with the page of a run and nothing else, where no coordinator listens. Throws LT_CLUSTER_LISTEN. */
export function servePage({ site, watchers, option, ...options }: PageServerOptions): Promise<PageServer> {
  return GuardedServer.listen({
    ...options,
    onRequest: serveSite(site),
    upgrades: new Map([[WATCH_PATH, watchers]]),
    advice: `choose another ${option ?? 'HOST:PORT'}`,
  });
}
