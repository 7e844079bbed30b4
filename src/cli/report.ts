import { join } from 'node:path';
import { RunDirectory } from '../checkpoint/run.js';
import { runConfigOf } from '../run/saved-config.js';
import { writeReport } from '../run/write-report.js';
import { printLine } from './output.js';

/** `lantrain report DIR`. */
export async function report(path: string): Promise<number> {
  const run = await RunDirectory.open(path, 'report');
  await writeReport(run, runConfigOf(run));
  printLine(join(path, 'report.html'));
  return 0;
}
