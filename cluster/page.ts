/** The page of a run: its secrets, its address and its server. */
import { join } from 'node:path';
import { ACCESS_FOLDER } from '../src/checkpoint/tree.js';
import { type Access, adminTokenFile, loadOrCreateAccess } from '../src/net/access.js';
import { checkAddress } from '../src/net/listening.js';
import { isLoopback } from '../src/net/loopback.js';
import { listenAddress } from '../src/node/lan-address.js';
import { packageRoot } from '../src/node/shaders.js';
import type { Ending, StartedRun } from '../src/run/backend.js';
import type { WatchEvent } from '../src/run/events.js';
import type { RunPage } from '../src/run/local-backend.js';
import { noting } from '../src/run/tell.js';
import type { PageSecrets } from '../src/watch/messages.js';
import { type PageServer, servePage } from '../src/watch/server/page-server.js';
import { Watchers } from '../src/watch/server/watchers.js';
import { END_REASONS } from './protocol/protocol.js';
import { Refusals } from './refusals.js';
import { ownAddress, pageAddress } from './transport/shown-address.js';

/** The bundled page. */
export function siteFolder(): string {
  return join(packageRoot(), 'dist', 'page');
}

/** The secrets that let others see a run and control it; the fingerprint is empty without TLS. */
export function secretsOf({ token, fingerprint, admin }: Access, secure: boolean): PageSecrets {
  return { token, fingerprint: secure ? fingerprint : '', admin };
}

/** Reports refused connections on the terminal and in the page's log. */
export function refusalsOf({ journal }: Pick<StartedRun, 'journal'>): Refusals {
  return new Refusals((text) => journal.mention('refuse', text, `refused ${text}`));
}

export function watchersOf({ journal, controls }: StartedRun, secrets: PageSecrets, refusals: Refusals): Watchers {
  return new Watchers({
    secrets,
    telemetry: journal.telemetry,
    controls,
    onRefused: (error, peer) => refusals.add(error, peer, 'a page of '),
    onControl: (text) => journal.mention('admin', text, `admin    ${text}`),
  });
}

/** The event that says where the page is on `host`, with the admin token's file in `folder`. */
export function watchEvent(
  host: string,
  port: number,
  isSecure: boolean,
  secrets: PageSecrets,
  folder: string,
): WatchEvent {
  const address = pageAddress(host, port, isSecure);
  const where = address === undefined ? {} : { address };
  return { event: 'watch', host, ...where, secrets, adminFile: adminTokenFile(folder) };
}

/** The page of a run without a coordinator, with TLS unless only this machine reaches it. */
export class TrainingPage implements RunPage {
  readonly #host: string;
  readonly #port: number;
  #server: PageServer | undefined;
  #refusals: Refusals | undefined;

  /** `where`: `HOST:PORT`. Throws LT_USAGE_OPTION. */
  constructor(where: string) {
    [this.#host, this.#port] = listenAddress(where, '--watch');
  }

  async check(): Promise<void> {
    await checkAddress(this.#host, this.#port, 'choose another --watch HOST:PORT');
  }

  async open(started: StartedRun): Promise<void> {
    const { run, tell } = started;
    const note = noting(tell);
    const folder = join(run.root, ACCESS_FOLDER);
    const access = await loadOrCreateAccess(folder);
    if (access.remark !== undefined) note(`access   ${access.remark}`);
    const isSecure = !isLoopback(this.#host);
    const secrets = secretsOf(access, isSecure);
    const refusals = refusalsOf(started);
    this.#refusals = refusals;
    this.#server = await servePage({
      host: this.#host,
      port: this.#port,
      tls: isSecure ? access : undefined,
      site: siteFolder(),
      watchers: watchersOf(started, secrets, refusals),
      onRefused: (error, peer) => refusals.add(error, peer),
      option: '--watch HOST:PORT',
    });
    const { host, remark } = await ownAddress(this.#host);
    tell(watchEvent(host, this.#server.port, isSecure, secrets, folder));
    if (remark !== undefined) note(remark);
  }

  async close(how: Ending): Promise<void> {
    this.#refusals?.flush();
    await this.#server?.close(END_REASONS[how]);
  }
}
