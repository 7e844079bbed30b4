import type { IdSet } from './sets.js';

/** A connection that was admitted. A new number for every connection; never used again by the same coordinator. */
export type WorkerId = number;
/** The owner's own adapter, as a worker: it is dealt copies for audits and refused micro-batches, and is believed. */
export const OWNER: WorkerId = 0;
/** Counted up from 1 within an incarnation. */
export type AssignmentId = number;
/** The shell's name for a received contribution and its bytes; never used twice. */
export type ContributionId = number;
/** Weights by the number of updates they have behind them. */
export type Version = number;

export interface RoundConfig {
  /** Buckets of parameters, 0 .. parameterBuckets - 1. The loss is bucket `parameterBuckets`, the last one. */
  readonly parameterBuckets: number;
  /** Updates that the weights have behind them when this coordinator starts. */
  readonly version: Version;
  /** Counts the starts of coordinators of this run; frames of an earlier one are stale. */
  readonly incarnation: number;
  /** With clipping no bucket is updated before all are complete and the norm is known. */
  readonly clips: boolean;
  /** Workers with weights that must be there before the first step of this incarnation. At least 1. */
  readonly minWorkers: number;
  /** The fraction of assignments whose contributions somebody else must confirm. */
  readonly audit: number;
  readonly ownerBitClass: string;
  /** Refuse workers of another bit class than the owner's. */
  readonly exact: boolean;
  /** Whether the owner's adapter can compute micro-batches, as worker `OWNER`. */
  readonly ownerComputes: boolean;
  /** By person, the first step of this run to which it contributed under an earlier coordinator. */
  readonly firstSteps?: ReadonlyMap<string, number>;
  readonly policy?: Partial<Policy>;
}

/** Times in milliseconds. None of these changes a result. */
export interface Policy {
  /** The shortest silence that fences a worker. */
  readonly silenceMs: number;
  /** A worker may be silent for this many times the estimate of what it has to do. */
  readonly silenceFactor: number;
  /**
   * Work is late after this many times the estimate of its end. Two and a half: honest times of a step differ by less,
   * and a worker that never ends its share costs a step not much more than three others.
   */
  readonly lateFactor: number;
  /** Work is not late before this time, which a busy machine may take for nothing. */
  readonly lateFloorMs: number;
  /** As `lateFloorMs`, of a worker that has not proved itself: its first work is its slowest. */
  readonly lateUnprovenMs: number;
  /** As `lateFloorMs`, while nobody's speed is known. */
  readonly lateUnknownMs: number;
  /** The first back-off after work that was not done; doubled each time. At least two usual steps long. */
  readonly backOffMs: number;
  readonly longestBackOffMs: number;
  /** The longest one of a person of which another connection has proved itself: honest newcomers may share its address. */
  readonly neighbourBackOffMs: number;
  /** The back-off of a person whose worker left with work, after it had contributed a little: workers die, honestly. */
  readonly leaveMs: number;
  /** A person's bad manners are forgotten at this rate, one at a time. */
  readonly forgetMs: number;
  /** Steps to which a connection has contributed before its failures cost its person nothing. */
  readonly settledSteps: number;
  /** While nobody else can work, a worker that should wait is dealt work this often. */
  readonly necessityMs: number;
  /** Two refuted refusals of a person within this many steps end its connection. */
  readonly refutedSteps: number;
  /** A job that waits this long for its workers says so; and not before `awaitedSteps` usual steps. */
  readonly awaitedMs: number;
  readonly awaitedSteps: number;
  /** What one more assignment costs besides its micro-batches: its upload, mostly. */
  readonly overheadMs: number;
  /** Weight of the newest step in a worker's speed. */
  readonly speedWeight: number;
  /** `send` actions of one worker that wait for `sent`. */
  readonly sendWindow: number;
  /**
   * Buckets whose checksum was wrong at a worker before its connection is closed, in one step; of all connections of a
   * person, four times as many within a minute.
   */
  readonly wrongBuckets: number;
}

export const DEFAULT_POLICY: Policy = {
  silenceMs: 5000,
  silenceFactor: 3,
  lateFactor: 2.5,
  lateFloorMs: 200,
  lateUnprovenMs: 1000,
  lateUnknownMs: 2000,
  backOffMs: 2000,
  longestBackOffMs: 300_000,
  neighbourBackOffMs: 10_000,
  leaveMs: 1000,
  forgetMs: 60_000,
  settledSteps: 3,
  necessityMs: 1000,
  refutedSteps: 100,
  awaitedMs: 5000,
  awaitedSteps: 3,
  overheadMs: 20,
  speedWeight: 0.4,
  sendWindow: 4,
  wrongBuckets: 8,
};

export type JobKind = 'step' | 'evaluate';

/** Every event carries the time it happened in milliseconds, of any clock that does not go backwards. */
export type RoundEvent = { readonly now: number } & (
  | /** A worker that proved the token and its bit class. */ {
      readonly type: 'worker-joined';
      readonly worker: WorkerId;
      readonly bitClass: string;
      /** Whom it counts for where votes and bad manners are counted: connections of one address are one person. */
      readonly person: string;
    }
  | /** The owner's adapter cannot compute after all: what it was dealt is open again, and it is dealt nothing more. */ {
      readonly type: 'owner-unable';
    }
  | /** Its connection ended. Ignored for workers that the round has closed itself. */ {
      readonly type: 'worker-left';
      readonly worker: WorkerId;
      readonly reason: string;
    }
  | /** Any byte received (a pong, part of a frame); the shell may thin these out to some a second. */ {
      readonly type: 'life';
      readonly worker: WorkerId;
    }
  | /** The worker has begun `begun` micro-batches of the assignment so far (these are not handed back any more). */ {
      readonly type: 'progress';
      readonly worker: WorkerId;
      readonly assignment: AssignmentId;
      readonly begun: number;
    }
  | /**
   * The answer to `hand-back` (possibly the empty set); whoever hands back what nobody asked for is fenced. Must come before
   * the assignment's first contribution, on the same connection. Handing back all ends the assignment.
   */ {
      readonly type: 'handed-back';
      readonly worker: WorkerId;
      readonly assignment: AssignmentId;
      readonly microBatches: IdSet;
    }
  | /**
   * A contribution has arrived whole; only its header has been looked at. Answered by exactly one of `add`, `check`
   * or `release`, at once. `draw` is from the shell's private randomness, uniform in [0, 1): the sender cannot know it
   * before it has sent.
   */ {
      readonly type: 'contribution';
      readonly contribution: ContributionId;
      readonly worker: WorkerId;
      readonly draw: number;
      readonly incarnation: number;
      readonly step: number;
      readonly assignment: AssignmentId;
      readonly bucket: number;
      readonly microBatches: IdSet;
    }
  | /**
   * The answer to `add`. `ok`: the whole contribution is in the bucket's sum. Otherwise nothing of it is (checksum,
   * format, a value beyond count * 2^52) and `reason` says why. Either way its bytes are released.
   */ {
      readonly type: 'added';
      readonly contribution: ContributionId;
      readonly ok: boolean;
      readonly reason?: string;
    }
  | /** The answer to `check`: the digest of the payload, or undefined when it is not well formed. */ {
      readonly type: 'checked';
      readonly contribution: ContributionId;
      readonly digest: string | undefined;
    }
  | /** Micro-batches of an assignment gave NaN, an infinity or 2^12 and more. The worker has dropped the assignment. */ {
      readonly type: 'refused';
      readonly worker: WorkerId;
      readonly assignment: AssignmentId;
      readonly microBatches: IdSet;
      readonly reason: string;
    }
  | /** The answer to `send`: the frame is out of the coordinator's memory. */ {
      readonly type: 'sent';
      readonly worker: WorkerId;
    }
  | /** A worker found the checksum of a bucket's weights wrong; it gets the bucket whole. */ {
      readonly type: 'mismatch';
      readonly worker: WorkerId;
      readonly bucket: number;
    }
  | /** The answer to `norm`. */ { readonly type: 'norm-known' }
  | /** The answer to `update`. */ { readonly type: 'updated'; readonly bucket: number }
  | /**
   * Update number `step`, the one after the last committed, from micro-batches 0 .. microBatches - 1 (at most 1024).
   * Only while no other job is in hand.
   */ {
      readonly type: 'begin-step';
      readonly step: number;
      readonly microBatches: number;
    }
  | /** The losses of a list of micro-batches under the last committed weights; only while no job is in hand. */ {
      readonly type: 'begin-evaluation';
      readonly microBatches: number;
    }
  | /** The job in hand is abandoned: the last committed version stands. */ { readonly type: 'stop' }
  | /** Time passes; at least some times a second, or at `Round.wakeAt`. */ { readonly type: 'tick' }
);

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

/** What the log and the metrics are told. */
export type RoundNote =
  | { readonly note: 'join'; readonly worker: WorkerId; readonly bitClass: string }
  | { readonly note: 'leave'; readonly worker: WorkerId; readonly reason: string }
  | /** A bit class other than the owner's has joined: the run is mixed from here on. */ {
      readonly note: 'mixed';
      readonly worker: WorkerId;
      readonly bitClass: string;
    }
  | { readonly note: 'fence'; readonly worker: WorkerId; readonly silentMs: number; readonly reason: string }
  | /** A worker that should wait is dealt work all the same, since nobody else can have it. */ {
      readonly note: 'unfence';
      readonly worker: WorkerId;
    }
  | { readonly note: 'refuse'; readonly worker: WorkerId; readonly reason: string }
  | /** A contribution that was not used: of an earlier step, a revoked assignment, or inside already. */ {
      readonly note: 'stale';
      readonly worker: WorkerId;
      readonly reason: string;
    }
  | { readonly note: 'audit'; readonly worker: WorkerId; readonly bucket: number; readonly reason: string }
  | /** A chosen contribution was used unaudited: nobody else of its bit class is there. */ {
      readonly note: 'unaudited';
      readonly worker: WorkerId | undefined;
    }
  | /**
   * The first step in which something that the person contributed is used without the owner's word for it. Once a person,
   * and not if `firstSteps` has it.
   */ {
      readonly note: 'contributed';
      readonly person: string;
      readonly step: number;
    }
  | /** What the worker's person contributed from step `since` on was used unaudited, and the worker is found wrong. */ {
      readonly note: 'inexact';
      readonly worker: WorkerId;
      readonly since: number;
      readonly reason: string;
    }
  | /** The job in hand waits for these workers alone (`OWNER` may be one), for `waitedMs` by now. Said again at growing intervals. */ {
      readonly note: 'awaited';
      readonly workers: readonly WorkerId[];
      readonly waitedMs: number;
    }
  | /** Its work is late and was dealt to another worker as well. */ {
      readonly note: 'late';
      readonly worker: WorkerId;
      readonly lateMs: number;
    }
  | /** It refused micro-batches, of which this is the first, that others computed. */ {
      readonly note: 'refuted';
      readonly worker: WorkerId;
      readonly microBatch: number;
    }
  | /** A job cannot go on (or begin) until this changes; said once. */ {
      readonly note: 'waiting';
      readonly for: 'workers' | 'min-workers';
    }
  | { readonly note: 'going-on' };

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

/** Totals since this coordinator started. */
export interface RoundCounters {
  accepted: number;
  stale: number;
  impossible: number;
  /** Payloads that did not verify. */
  spoiled: number;
  refused: number;
  fenced: number;
  /** Micro-batches handed back. */
  handedBack: number;
  /** Contributions that somebody else confirmed. */
  audited: number;
  wrongBuckets: number;
  /** Assignments whose work was dealt a second time because they were late. */
  late: number;
  /** Refusals that were refuted. */
  refuted: number;
}

/** What a dashboard shows of a worker. */
export interface WorkerView {
  readonly worker: WorkerId;
  readonly bitClass: string;
  /** Estimated time of one micro-batch, all in; undefined before anything is known. */
  readonly microBatchMs: number | undefined;
  /** Micro-batches of the step that it has now. */
  readonly share: number;
  readonly fenced: boolean;
  /** Has, or is about to have, the weights of the step. */
  readonly ready: boolean;
}
