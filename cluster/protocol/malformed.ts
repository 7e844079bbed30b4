import { LantrainError } from '../../src/errors.js';

/** The error for a message that no honest peer sends. `what`: the rule that it breaks. */
export function malformed(what: string, cause?: unknown): LantrainError {
  return new LantrainError('LT_CLUSTER_MALFORMED', `a message was refused: ${what}`, { cause });
}
