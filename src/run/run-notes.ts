import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { RunDirectory } from '../checkpoint/run.js';
import { writeReport } from '../cli/report.js';
import { pasteable } from '../node/invocation.js';
import { type Inexact, inexactOf, inexactText } from '../report/exactness.js';
import { readMetrics, type WorkersEvent } from '../report/metrics.js';
import { printableLine } from '../util/printable.js';
import type { Telemetry } from '../watch/server/telemetry.js';
import { runConfigOf } from './saved-config.js';

/**
 * Notes what workers have computed since the last time, before the checkpoint of that step: a run that is killed later
 * goes on from there, and what they computed after it is computed again.
 */
export function noteWorkers(
  run: RunDirectory,
  conductor: { workers?(step: number): WorkersEvent },
  step: number,
): void {
  const event = conductor.workers?.(step);
  if (event !== undefined && event.workers.length > 0) run.append(event);
}

/**
 * Says in the run's metrics, in its report and on its page that it has ended before its last step, and why it failed.
 * Never throws: a full disk may be why it ended, and that is told already.
 */
export async function noteEnd(
  run: RunDirectory,
  telemetry: Telemetry,
  state: 'stopped' | 'failed',
  error?: unknown,
): Promise<void> {
  const reason = error === undefined ? undefined : reasonOf(error);
  telemetry.end(state, reason);
  // A new run that could not begin is gone again.
  if (!existsSync(join(run.root, 'config.json'))) return;
  try {
    run.append({ event: state, step: telemetry.step, ...(reason === undefined ? {} : { reason }) });
    if (error !== undefined) await writeReport(run, runConfigOf(run));
  } catch {}
}

/** The mark of a run that has used what is found wrong. */
export function markOf(run: RunDirectory): Inexact | undefined {
  return inexactOf(readMetrics(join(run.root, 'metrics.jsonl')));
}

/** What a mark says, and how to go back before it. */
export function remarkOf(run: RunDirectory, mark: Inexact, verb: string): string {
  return `${inexactText(mark)}; ${wayBack(run, mark.since, verb)}`;
}

/** The state before step `since` is the last that nothing wrong has gone into. */
function wayBack(run: RunDirectory, since: number, verb: string): string {
  const kept = run.list();
  const good = kept.findLast(({ step }) => step < since);
  const later = kept.filter(({ step }) => step >= since).map(({ path }) => path);
  const resume = pasteable([verb, '--resume', run.path]);
  if (good === undefined) return 'no checkpoint of before is kept: train it anew';
  const remove = later.length > 0 ? `remove ${later.join(' and ')}, then ` : '';
  return `to go back to the checkpoint of step ${good.step}: ${remove}${resume}`;
}

/** The first line of an error, which is one line if it is of this program. */
function reasonOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return printableLine(text.split('\n')[0], 500);
}
