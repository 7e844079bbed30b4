import type { AssignmentId, ContributionId, JobKind, Version, WorkerId } from './events.js';
import type { RoundNote } from './notes.js';
import type { IdSet } from './sets.js';

export type CloseCode =
  /** A future step, an assignment of somebody else, a set never dealt, an unknown bucket. */
  | 'LT_CLUSTER_IMPOSSIBLE'
  /** A payload that is not what its header says. */
  | 'LT_CLUSTER_PAYLOAD'
  /** Weights that stay wrong at the worker. */
  | 'LT_CLUSTER_WEIGHTS'
  /** The owner's adapter, or two others, have another result; or that was found of its person twice. */
  | 'LT_CLUSTER_AUDIT'
  /** Another bit class than the owner's, and `exact` is asked for. */
  | 'LT_CLUSTER_BIT_CLASS'
  /** It has cost the run too much: refusals that were refuted, work that it never did. */
  | 'LT_CLUSTER_MANNERS';

export type StopReason =
  | { readonly why: 'asked' }
  | /**
   * LT_TRAIN_NONFINITE: the owner's adapter refuses it too; or, where that cannot compute, workers of two persons refuse
   * it, or the only person's do so twice.
   */ {
      readonly why: 'refused';
      readonly microBatch: number;
      readonly workers: readonly WorkerId[];
      readonly reason: string;
    }
  | /** Workers of one bit class that do not agree, and nobody decides. */ {
      readonly why: 'audit';
      readonly bucket: number;
      readonly workers: readonly WorkerId[];
    };

export type RoundAction =
  | /** Tell the worker the committed version; every version it receives after that is this one or a later one. */ {
      readonly type: 'admit';
      readonly worker: WorkerId;
      readonly version: Version;
    }
  | /** Tell it `code` and end the connection. The round has forgotten the worker already. */ {
      readonly type: 'close';
      readonly worker: WorkerId;
      readonly code: CloseCode;
      readonly reason: string;
    }
  | /**
   * Send a bucket's weights. `difference`: from version - 1. `version` is the committed one, or the one after it for a
   * bucket that is stepped. The shell takes the bytes when it executes the action: later actions may overwrite them.
   */ {
      readonly type: 'send';
      readonly worker: WorkerId;
      readonly bucket: number;
      readonly version: Version;
      readonly form: 'whole' | 'difference';
    }
  | /**
   * Compute the sum over `microBatches` and contribute it for each bucket of `buckets`. Work for step s needs every
   * bucket at version s - 1 (an evaluation: at its own version); frames on their way may still bring them. A worker
   * does its assignments in the order in which they come.
   */ {
      readonly type: 'assign';
      readonly worker: WorkerId;
      readonly assignment: AssignmentId;
      readonly kind: JobKind;
      /** Of an evaluation, the version that it is of. */
      readonly step: number;
      readonly microBatches: IdSet;
      readonly buckets: IdSet;
    }
  | /** Ask for these micro-batches, or those of them that have not begun. Answered by `handed-back`. */ {
      readonly type: 'hand-back';
      readonly worker: WorkerId;
      readonly assignment: AssignmentId;
      readonly microBatches: IdSet;
    }
  | /** The assignment is void: the worker drops it, and what it has sent of it is stale from now on. */ {
      readonly type: 'revoke';
      readonly worker: WorkerId;
      readonly assignment: AssignmentId;
    }
  | /** Verify the payload, then add it to the sum of `bucket`, whole or not at all. Answered by `added`. */ {
      readonly type: 'add';
      readonly contribution: ContributionId;
      readonly bucket: number;
    }
  | /** Verify the payload and digest it, but keep it. Answered by `checked`; then `add` or `release` follows. */ {
      readonly type: 'check';
      readonly contribution: ContributionId;
    }
  | /** The bytes are not needed any more. */ { readonly type: 'release'; readonly contribution: ContributionId }
  | /** All sums are complete: compute the norm. Only with clipping. Answered by `norm-known`. */ {
      readonly type: 'norm';
    }
  | /**
   * The sum of the bucket is complete: compute its new weights and moments, beside the old weights, and set the sum to
   * zero. Answered by `updated`; from then on `send` may ask for the difference to version `step`, and no more
   * for the one to `step - 1`.
   */ {
      readonly type: 'update';
      readonly step: number;
      readonly bucket: number;
    }
  | /**
   * Every bucket is stepped: the new weights are the weights, the loss sum is final (take it and set it to zero), and
   * every admitted worker is told; it applies what it holds of version `step`, and what comes later at once.
   */ {
      readonly type: 'commit';
      readonly step: number;
    }
  | /** The loss sum is complete: take it and set it to zero. Not `finite`: refused, the mean loss is NaN. */ {
      readonly type: 'evaluated';
      readonly finite: boolean;
    }
  | /** The end. `step` is the one in hand, or the last committed. All later events are ignored. */ {
      readonly type: 'stopped';
      readonly step: number;
      readonly reason: StopReason;
    }
  | { readonly type: 'log'; readonly step: number; readonly note: RoundNote };
