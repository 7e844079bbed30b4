import { join } from 'node:path';
import { RunDirectory } from '../src/checkpoint/run.js';
import { newToken } from '../src/net/access.js';
import { readMetrics } from '../src/report/metrics.js';
import { factsOf } from '../src/run/run-facts.js';
import { runConfigOf } from '../src/run/saved-config.js';
import { formatFragment } from '../src/watch/messages.js';
import { servePage } from '../src/watch/server/page-server.js';
import { Telemetry } from '../src/watch/server/telemetry.js';
import { Watchers } from '../src/watch/server/watchers.js';
import { siteFolder } from './page.js';
import { pageAddress } from './transport/shown-address.js';

const HOST = '127.0.0.1';

/** The page of a run, served to this machine only. */
export interface ServedRun {
  /** The URL to open in a browser of this machine, with the secret that grants access. */
  readonly address: string;
  close(): Promise<void>;
}

/**
 * Serves the page of a run on disk to this machine. Port 0 takes a free one. Throws LT_RUN_MISSING,
 * LT_CHECKPOINT_CORRUPT, and LT_CLUSTER_LISTEN if the port is not available.
 */
export async function serveRun({
  run: path,
  port,
}: {
  readonly run: string;
  readonly port: number;
}): Promise<ServedRun> {
  const run = await RunDirectory.open(path, 'read');
  const facts = factsOf(runConfigOf(run), path, 'past');
  const secrets = { token: newToken(), fingerprint: '', admin: '' };
  const telemetry = new Telemetry(facts, readMetrics(join(path, 'metrics.jsonl')));
  const watchers = new Watchers({ secrets, telemetry });
  const server = await servePage({ host: HOST, port, site: siteFolder(), watchers, option: '--port' });
  const page = pageAddress(HOST, server.port, false);
  return { address: `${page}${formatFragment(secrets)}`, close: () => server.close('the view was closed') };
}
