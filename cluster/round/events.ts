import type { Policy } from './policy.js';
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

/** The event of one type. */
export type EventOf<T extends RoundEvent['type']> = Extract<RoundEvent, { type: T }>;

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
  readonly assigned: number;
  readonly fenced: boolean;
  /** Has, or is about to have, the weights of the step. */
  readonly ready: boolean;
}
