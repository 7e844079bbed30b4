import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { listCheckpoints } from '../../src/checkpoint/checkpoint.js';
import type { Event } from './processes.js';
import { eventsOf } from './seeded.js';

/** What lies on the disk of a run. */
export interface Disk {
  readonly exists: boolean;
  readonly events: readonly Event[];
  /** The last step in the metrics, 0 before the first. */
  readonly step: number;
  /** The steps of which the metrics say that a checkpoint was written. */
  readonly checkpointEvents: readonly number[];
  /** The step of the newest checkpoint. */
  readonly newest: number | undefined;
  /** Files that no clean end leaves. */
  readonly leftovers: readonly string[];
}

export function diskOf(run: string): Disk {
  const events = eventsOf(run);
  const stepsOf = (kind: string) => events.filter(({ event }) => event === kind).map(({ step }) => Number(step));
  const exists = existsSync(run);
  const names = exists ? readdirSync(run, { recursive: true }).map(String) : [];
  return {
    exists,
    events,
    step: stepsOf('step').at(-1) ?? 0,
    checkpointEvents: stepsOf('checkpoint'),
    newest: listCheckpoints(join(run, 'checkpoints')).at(-1)?.step,
    leftovers: names.filter((name) => name === 'lock' || /\.(partial|replaced)/.test(name)),
  };
}

/** Throws where a step of the metrics is in no checkpoint, or something lies about. */
export function isClean({ step, newest, leftovers }: Disk): void {
  if (newest !== step) throw new Error(`step ${step} is in the metrics, and the newest checkpoint is of ${newest}`);
  if (leftovers.length > 0) throw new Error(`it leaves ${leftovers.join(', ')}`);
}

/** Throws where what a process said last of its run is not so. */
export function saysTruly(text: string, run: string, { step, newest }: Disk, isDone: boolean): void {
  const [, lostAs] = /stopped at once; (.*)/.exec(text) ?? [];
  if (lostAs !== undefined) {
    const lost = step - (newest ?? 0);
    const [, stands] = /checkpoint of step (\d+) stands/.exec(lostAs) ?? [];
    // One that was on its way to the disk may have arrived since.
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
  const [, digest] = /^digest ([0-9a-f]{64})/m.exec(text) ?? [];
  const name = String(newest).padStart(6, '0');
  const { digest: kept } = JSON.parse(readFileSync(join(run, 'checkpoints', name, 'state.json'), 'utf8'));
  if (digest !== kept) throw new Error(`it says digest ${digest}, and its newest checkpoint has ${kept}`);
}
