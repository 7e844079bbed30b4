import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { listCheckpoints } from '../../src/checkpoint/checkpoint.js';
import type { Event } from './processes.js';
import { eventsOf } from './seeded.js';

/** State of a run on disk. */
export interface Disk {
  readonly path: string;
  readonly exists: boolean;
  readonly isDone: boolean;
  readonly events: readonly Event[];
  /** The last step in the metrics, 0 before the first. */
  readonly step: number;
  /** Steps with a checkpoint according to the metrics. */
  readonly checkpointEvents: readonly number[];
  /** Step of the newest checkpoint. */
  readonly newest: number | undefined;
  /** Files that a clean end does not leave. */
  readonly leftovers: readonly string[];
}

export function diskOf(path: string): Disk {
  const events = eventsOf(path);
  const stepsOf = (kind: string) => events.filter(({ event }) => event === kind).map(({ step }) => Number(step));
  return {
    path,
    exists: existsSync(path),
    isDone: events.some(({ event }) => event === 'done'),
    events,
    step: stepsOf('step').at(-1) ?? 0,
    checkpointEvents: stepsOf('checkpoint'),
    newest: listCheckpoints(join(path, 'checkpoints')).at(-1)?.step,
    leftovers: namesIn(path).filter((name) => name === 'lock' || /\.(partial|replaced)/.test(name)),
  };
}

/** Paths of all files and folders below `path`, while the run's process may be replacing some of them. */
function namesIn(path: string): string[] {
  for (let tries = 0; ; tries += 1)
    try {
      return readdirSync(path, { recursive: true }).map(String);
    } catch (error) {
      // A checkpoint's folder was renamed between the listing of its parent and its own.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || tries > 20) throw error;
      if (!existsSync(path)) return [];
    }
}

export function describe({ step, newest }: Disk): string {
  return `step ${step} is in the metrics, the newest checkpoint is ${newest ?? 'none'}`;
}

/** How the process of a run ended. */
export interface Ended {
  readonly code: number | null;
  /** Its output, as far as it was read. */
  readonly text: string;
  /** The last step before the reader of its output went away, if it did. */
  readonly unreadSince: number | undefined;
  readonly wasKilled: boolean;
  /** It was told to stop at once: it must print what that costs. */
  readonly mayLose: boolean;
  readonly before: Disk | undefined;
  readonly after: Disk;
}

/** Throws if anything is wrong after such an end. */
export function checkEnding(ended: Ended): void {
  const { code, text, unreadSince, wasKilled, mayLose, before, after } = ended;
  if (/unexpected|unhandled|^\s+at /im.test(text)) throw new Error('it ended in a stack trace');
  if (wasKilled && code === null) {
    const kept = Math.max(-1, ...after.checkpointEvents);
    if ((after.newest ?? -1) < kept) throw new Error(`the checkpoint of step ${kept} was told of and is gone`);
    return;
  }
  if (/stopped before the first step/.test(text)) {
    if (code !== 130) throw new Error(`exit code ${code} of a run that was stopped before it began`);
    if (before?.exists ? before.newest !== after.newest : after.exists)
      throw new Error('a run that was stopped before it began leaves something else behind than it found');
    noLeftovers(after);
    return;
  }
  if (code !== (after.isDone ? 0 : 130)) throw new Error(`exit code ${code}`);
  const isUnread = unreadSince !== undefined;
  if (!(mayLose && (isUnread || /stopped at once/.test(text)))) {
    if (after.newest !== after.step) throw new Error(describe(after));
    noLeftovers(after);
  }
  if (!isUnread) saysTruly(text, after);
  // The first step after the reader went away may have been under way.
  else if (after.step > unreadSince + 1 && !after.events.some(({ event }) => event === 'output'))
    throw new Error('no event says that the output is lost');
}

function noLeftovers({ leftovers }: Disk): void {
  if (leftovers.length > 0) throw new Error(`it leaves ${leftovers.join(', ')}`);
}

/** Throws if the last lines about the run are not true. */
function saysTruly(text: string, { path, step, newest, isDone }: Disk): void {
  const [, lostAs] = /stopped at once; (.*)/.exec(text) ?? [];
  if (lostAs !== undefined) {
    const lost = step - (newest ?? 0);
    const [, stands] = /checkpoint of step (\d+) stands/.exec(lostAs) ?? [];
    // A checkpoint that was being written may have been completed since.
    if (Number(stands ?? -1) > (newest ?? -1))
      throw new Error(`"${lostAs}", and the newest checkpoint is of ${newest}`);
    if (lost > 0 !== / lost/.test(lostAs)) throw new Error(`"${lostAs}", and ${lost} steps are lost`);
    return;
  }
  if (!isDone) {
    const [, said] = /stopped after step (\d+) of/.exec(text) ?? [];
    if (said === undefined || Number(said) !== newest)
      throw new Error(`it says "stopped after step ${said}", and the newest checkpoint is of ${newest}`);
  }
  const [, digest] = /^digest +([0-9a-f]{64})/m.exec(text) ?? [];
  const name = String(newest).padStart(6, '0');
  const { digest: kept } = JSON.parse(readFileSync(join(path, 'checkpoints', name, 'state.json'), 'utf8'));
  if (digest !== kept) throw new Error(`it says digest ${digest}, and its newest checkpoint has ${kept}`);
}
