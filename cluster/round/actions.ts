import type { AssignmentId, ContributionId, JobKind, Version, WorkerId } from './events.js';
import type { RoundNote } from './notes.js';
import type { IdSet } from './sets.js';

export type CloseCode =
  /** A future step, another worker's assignment, a set that was never dealt, an unknown bucket. */
  | 'LT_CLUSTER_IMPOSSIBLE'
  /** A payload that does not match its header. */
  | 'LT_CLUSTER_PAYLOAD'
  /** The worker's weights stay wrong. */
  | 'LT_CLUSTER_WEIGHTS'
  /** The owner's adapter, or two other persons, have another result; or its person was found wrong twice. */
  | 'LT_CLUSTER_AUDIT'
  /** Another bit class than the owner's in a run with `exact`. */
  | 'LT_CLUSTER_BIT_CLASS'
  /** Its person's refusals were refuted twice within `refutedSteps`. */
  | 'LT_CLUSTER_MANNERS';

export type StopReason =
  | { readonly why: 'asked' }
  | /**
   * LT_TRAIN_NONFINITE: the owner's adapter refuses the micro-batch too. If that cannot compute: workers of two persons
   * refuse it, or the workers of the only person refuse it twice.
   */ {
      readonly why: 'refused';
      readonly microBatch: number;
      readonly workers: readonly WorkerId[];
      readonly reason: string;
    }
  | /** Workers of one bit class do not agree, and nobody can decide. */ {
      readonly why: 'audit';
      readonly bucket: number;
      readonly workers: readonly WorkerId[];
    };

export type RoundAction =
  | /**
   * Tell the worker the committed version. All weights it receives afterwards are of this version or a later one.
   */ {
      readonly type: 'admit';
      readonly worker: WorkerId;
      readonly version: Version;
    }
  | /** Send `code` and end the connection. The round has already forgotten the worker. */ {
      readonly type: 'close';
      readonly worker: WorkerId;
      readonly code: CloseCode;
      readonly reason: string;
    }
  | /**
   * Send a bucket's weights. `difference`: from version - 1. `version` is the committed one, or the next one for a
   * bucket that is stepped. The shell reads the bytes when it executes the action: later actions may overwrite them.
   */ {
      readonly type: 'send';
      readonly worker: WorkerId;
      readonly bucket: number;
      readonly version: Version;
      readonly form: 'whole' | 'difference';
    }
  | /**
   * Compute the sum over `microBatches` and contribute it for each bucket of `buckets`. Work for step s needs every
   * bucket at version s - 1 (an evaluation: at its own version). Some of these weights may still be on their way. A
   * worker does its assignments in order of arrival.
   */ {
      readonly type: 'assign';
      readonly worker: WorkerId;
      readonly assignment: AssignmentId;
      readonly kind: JobKind;
      /** The step; for an evaluation, the version of its weights. */
      readonly step: number;
      readonly microBatches: IdSet;
      readonly buckets: IdSet;
    }
  | /** Ask for those of these micro-batches that have not begun. Answered by `handed-back`. */ {
      readonly type: 'hand-back';
      readonly worker: WorkerId;
      readonly assignment: AssignmentId;
      readonly microBatches: IdSet;
    }
  | /** The assignment is void: the worker drops it, and its contributions are stale from now on. */ {
      readonly type: 'revoke';
      readonly worker: WorkerId;
      readonly assignment: AssignmentId;
    }
  | /** Verify the payload, then add all of it to the sum of `bucket`, or nothing. Answered by `added`. */ {
      readonly type: 'add';
      readonly contribution: ContributionId;
      readonly bucket: number;
    }
  | /**
   * Verify the payload and compute its digest, but keep the bytes. Answered by `checked`; then `add` or `release`
   * follows.
   */ {
      readonly type: 'check';
      readonly contribution: ContributionId;
    }
  | /** Free the bytes. */ { readonly type: 'release'; readonly contribution: ContributionId }
  | /** All sums are complete: compute the norm. Only with clipping. Answered by `norm-known`. */ {
      readonly type: 'norm';
    }
  | /**
   * The sum of the bucket is complete: compute its new weights and moments, keep the old weights, and set the sum to
   * zero. Answered by `updated`. From then on `send` may ask for the difference to version `step`, and no longer for
   * the one to `step - 1`.
   */ {
      readonly type: 'update';
      readonly step: number;
      readonly bucket: number;
    }
  | /**
   * Every bucket is stepped: the new weights become the weights. The loss sum is final: take it and set it to zero.
   * Tell every admitted worker. Workers then apply what they hold of version `step`, and later weights at once.
   */ {
      readonly type: 'commit';
      readonly step: number;
    }
  | /**
   * The loss sum is complete: take it and set it to zero. Not `finite`: the evaluation was refused, and its mean loss
   * is NaN.
   */ {
      readonly type: 'evaluated';
      readonly finite: boolean;
    }
  | /** The round has ended. `step` is the current one, or the last committed. All later events are ignored. */ {
      readonly type: 'stopped';
      readonly step: number;
      readonly reason: StopReason;
    }
  | { readonly type: 'log'; readonly step: number; readonly note: RoundNote };
