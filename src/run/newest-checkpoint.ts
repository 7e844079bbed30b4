import type { Checkpoint } from '../checkpoint/checkpoint.js';
import type { RunDirectory } from '../checkpoint/run.js';
import { LantrainError } from '../errors.js';
import type { ReadHooks } from './read-hooks.js';

/**
 * A run's newest whole checkpoint, with its digest checked. The caller closes it. Damaged ones are told as notes.
 * Throws LT_RUN_MISSING where the run has no checkpoint yet, LT_CHECKPOINT_CORRUPT where none is whole.
 */
export async function newestCheckpoint(run: RunDirectory, hooks: ReadHooks): Promise<Checkpoint> {
  const { found, warnings } = await run.latest((done, total) =>
    hooks.onEvent?.({ event: 'progress', label: 'checking the checkpoint', done, total }),
  );
  for (const text of warnings) hooks.onEvent?.({ event: 'note', text });
  if (found === undefined) throw new LantrainError('LT_RUN_MISSING', `${run.path} has no checkpoint yet`);
  return found;
}
