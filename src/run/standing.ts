/** What is left of a run that ends, in words. */
import type { RunDirectory } from '../checkpoint/run.js';
import { LantrainError } from '../errors.js';
import type { Inexact } from '../report/exactness.js';
import type { InexactRun } from './events.js';

/** What a run that ends after `step` leaves behind, as one clause. */
export function whatStands(run: Pick<RunDirectory, 'list'>, step: number): string {
  const last = run.list().at(-1);
  const lost = step - (last?.step ?? 0);
  const steps = lost === 1 ? `step ${step} is` : `steps ${step - lost + 1} to ${step} are`;
  if (last === undefined) return lost > 0 ? `${steps} lost: there was no checkpoint yet` : 'no step was done yet';
  const stands = `the checkpoint of step ${last.step} stands: ${last.path}`;
  return lost > 0 ? `${steps} lost; ${stands}` : stands;
}

/** What failed in the middle of a run says also what of the run is left. */
export function withStanding(error: unknown, standing: string): unknown {
  if (!(error instanceof LantrainError)) return error;
  return new LantrainError(error.code, `${error.message}; ${standing}`, { cause: error });
}

/** A run's mark with the way back: the state before step `since` is the last that nothing wrong has gone into. */
export function wayBack(run: Pick<RunDirectory, 'list'>, mark: Inexact): InexactRun {
  const kept = run.list();
  const good = kept.findLast(({ step }) => step < mark.since)?.step;
  const bad = kept.filter(({ step }) => step >= mark.since).map(({ path }) => path);
  return { ...mark, ...(good === undefined ? {} : { good }), bad };
}
