import { join } from 'node:path';
import { RunDirectory } from '../checkpoint/run.js';
import { runConfigOf } from './saved-config.js';
import { writeReport } from './write-report.js';

/**
 * Writes report.html of the run in the folder `path`, which another process may be training. Resolves with the file's
 * path.
 */
export async function report(path: string): Promise<string> {
  const run = await RunDirectory.open(path, 'report');
  await writeReport(run, runConfigOf(run));
  return join(path, 'report.html');
}
