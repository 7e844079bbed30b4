/** Words for what is left of a run that ends early. */
import type { RunDirectory } from '../checkpoint/run.js';
import { LantrainError } from '../errors.js';
import type { Inexact } from '../report/exactness.js';
import type { InexactRun } from './events.js';

/** What is left of a run that ends after `step`, as one clause: the last checkpoint, and the steps that are lost. */
export function whatStands(run: Pick<RunDirectory, 'list'>, step: number): string {
  const last = run.list().at(-1);
  const lost = step - (last?.step ?? 0);
  const steps = lost === 1 ? `step ${step} is` : `steps ${step - lost + 1} to ${step} are`;
  if (last === undefined) return lost > 0 ? `${steps} lost: there was no checkpoint yet` : 'no step was done yet';
  const stands = `the checkpoint of step ${last.step} stands: ${last.path}`;
  return lost > 0 ? `${steps} lost; ${stands}` : stands;
}

/**
 * A LantrainError of the middle of a run, with what is left of the run added to its message. Any other error as it is.
 */
export function withStanding(error: unknown, standing: string): unknown {
  if (!(error instanceof LantrainError)) return error;
  return new LantrainError(error.code, `${error.message}; ${standing}`, { cause: error });
}

/**
 * `mark` with the kept checkpoints before and after it: the state before step `since` is the last one that is exact.
 */
export function wayBack(run: Pick<RunDirectory, 'list'>, mark: Inexact): InexactRun {
  const kept = run.list();
  const good = kept.findLast(({ step }) => step < mark.since)?.step;
  const bad = kept.filter(({ step }) => step >= mark.since).map(({ path }) => path);
  return { ...mark, ...(good === undefined ? {} : { good }), bad };
}
