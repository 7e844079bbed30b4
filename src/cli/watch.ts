import { basename, join } from 'node:path';
import QRCode from 'qrcode';
import type { RunDirectory } from '../checkpoint/run.js';
import { ACCESS_FOLDER } from '../checkpoint/tree.js';
import { type Access, adminTokenFile, loadOrCreateAccess } from '../net/access.js';
import { isLoopback } from '../net/loopback.js';
import { packageRoot } from '../node/shaders.js';
import { version } from '../node/version.js';
import type { Reporter } from '../report/progress.js';
import { modelLine, settingsOf } from '../run/run-facts.js';
import type { RunConfig } from '../train/run-config.js';
import { formatFragment, type PageSecrets, type RunFacts } from '../watch/messages.js';
import type { RunControls } from '../watch/server/controls.js';
import { type PageServer, servePage } from '../watch/server/page-server.js';
import type { Telemetry } from '../watch/server/telemetry.js';
import { Watchers } from '../watch/server/watchers.js';
import { ownAddress, pageAddress } from './joining.js';
import { Refusals } from './refusals.js';

/** A run as its page shows it, and what the page may ask of it. */
export interface Watched {
  readonly telemetry: Telemetry;
  readonly controls: RunControls;
}

export function factsOf(config: RunConfig, path: string, kind: RunFacts['kind']): RunFacts {
  return {
    type: 'run',
    name: basename(path),
    version: version(),
    kind,
    model: modelLine(config),
    data: config.data.description,
    adapter: config.adapter,
    totalSteps: config.totalSteps,
    tokensPerStep: config.options.batch * config.model.context,
    stepsPerEpoch: config.stepsPerEpoch,
    settings: settingsOf(config),
  };
}

/** The bundled page. */
export function siteFolder(): string {
  return join(packageRoot(), 'dist', 'page');
}

export function watchersOf(
  { telemetry, controls }: Watched,
  secrets: PageSecrets,
  reporter: Reporter,
  refusals: Refusals,
): Watchers {
  return new Watchers({
    secrets,
    telemetry,
    controls,
    onRefused: (error, peer) => refusals.add(error, peer, 'a page of '),
    onControl: (text) => {
      reporter.note(`admin    ${text}`);
      telemetry.log('admin', text);
    },
  });
}

/**
 * Says where the run can be watched and controlled; on a terminal also as a QR code for a phone. `address` is the page's
 * on `host`; it is absent where browsers take no address of that kind. `adminFile` holds the admin token.
 */
export async function announcePage(
  reporter: Reporter,
  host: string,
  address: string | undefined,
  secrets: PageSecrets,
  adminFile: string,
) {
  if (address === undefined) {
    reporter.note(
      `watch    browsers open no address with an interface in it (${host}); [::]:PORT has one for them too`,
    );
    return;
  }
  const watch = `${address}${formatFragment({ ...secrets, admin: '' })}`;
  reporter.note(`watch    ${watch}`);
  reporter.note(`admin    ${adminLine(reporter, address, secrets, adminFile)}`);
  if (isLoopback(host) || !process.stdout.isTTY) return;
  for (const line of (await QRCode.toString(watch, { type: 'utf8', errorCorrectionLevel: 'L' })).split('\n'))
    if (line.trim() !== '') reporter.note(line);
}

/** The link that controls the run is for who sits here: logs are read by others, so there the token's file is named. */
function adminLine(reporter: Reporter, address: string, secrets: PageSecrets, adminFile: string): string {
  if (reporter.isPrivate) return `${address}${formatFragment(secrets)}`;
  return `${address}${formatFragment({ ...secrets, admin: 'ADMIN' })} with what is in ${adminFile} for ADMIN`;
}

/** `train --watch`: the page of a run without a coordinator, by TLS unless it is for this machine only. */
export async function watchTraining(
  run: RunDirectory,
  reporter: Reporter,
  watched: Watched,
  [host, port]: readonly [string, number],
): Promise<PageServer> {
  const folder = join(run.root, ACCESS_FOLDER);
  const access = await loadOrCreateAccess(folder);
  if (access.remark !== undefined) reporter.note(`access   ${access.remark}`);
  const secure = !isLoopback(host);
  const secrets = secretsOf(access, secure);
  const refusals = new Refusals(reporter, watched.telemetry);
  const server = await servePage({
    host,
    port,
    tls: secure ? access : undefined,
    site: siteFolder(),
    watchers: watchersOf(watched, secrets, reporter, refusals),
    onRefused: (error, peer) => refusals.add(error, peer),
    option: '--watch HOST:PORT',
  });
  const { host: shown, remark } = await ownAddress(host);
  await announcePage(reporter, shown, pageAddress(shown, server.port, secure), secrets, adminTokenFile(folder));
  if (remark !== undefined) reporter.note(remark);
  return server;
}

export function secretsOf({ token, fingerprint, admin }: Access, secure: boolean): PageSecrets {
  return { token, fingerprint: secure ? fingerprint : '', admin };
}
