import { join } from 'node:path';
import { RunDirectory } from '../checkpoint/run.js';
import { newToken } from '../net/access.js';
import { readMetrics } from '../report/metrics.js';
import { runConfigOf } from '../run/saved-config.js';
import { formatFragment } from '../watch/messages.js';
import { servePage } from '../watch/server/page-server.js';
import { Telemetry } from '../watch/server/telemetry.js';
import { Watchers } from '../watch/server/watchers.js';
import { pageAddress } from './joining.js';
import { outputIsOptional, printLine } from './output.js';
import { factsOf, siteFolder } from './watch.js';

const HOST = '127.0.0.1';

/** `lantrain view DIR`: the page of a run as it lies on the disk, for this machine, until Ctrl-C. */
export async function view(path: string, port: number): Promise<number> {
  const run = await RunDirectory.open(path, 'read');
  const facts = factsOf(runConfigOf(run), path, 'past');
  const secrets = { token: newToken(), fingerprint: '', admin: '' };
  const telemetry = new Telemetry(facts, readMetrics(join(path, 'metrics.jsonl')));
  const watchers = new Watchers({ secrets, telemetry });
  const server = await servePage({ host: HOST, port, site: siteFolder(), watchers, option: '--port' });
  // The page is the purpose: once its address is copied, the terminal may be closed.
  outputIsOptional(() => {});
  const address = pageAddress(HOST, server.port, false);
  const stopped = new Promise<void>((stop) => process.once('SIGINT', stop).once('SIGTERM', stop));
  printLine(`view     ${address}${formatFragment(secrets)}`);
  printLine('Ctrl-C ends it');
  await stopped;
  await server.close('the view was closed');
  return 0;
}
