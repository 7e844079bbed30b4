import type { Policy } from './policy.js';
import type { IdSet } from './sets.js';

/** An admitted connection. Every connection has a new number; a coordinator never reuses one. */
export type WorkerId = number;
/**
 * The owner's own adapter as a worker: it is dealt copies for audits and refused micro-batches, and its results are
 * believed.
 */
export const OWNER: WorkerId = 0;
/** Counts from 1 within an incarnation. */
export type AssignmentId = number;
/** The shell's number for a received contribution and its bytes; never used twice. */
export type ContributionId = number;
/** Version of the weights: the number of updates behind them. */
export type Version = number;

export interface RoundConfig {
  /** Buckets of parameters, 0 .. parameterBuckets - 1. The loss is bucket `parameterBuckets`, the last one. */
  readonly parameterBuckets: number;
  /** Version of the weights when this coordinator starts. */
  readonly version: Version;
  /** Counts the coordinator's starts of this run; frames of an earlier start are stale. */
  readonly incarnation: number;
  /** Gradient clipping: no bucket is updated before all are complete and the norm is known. */
  readonly clips: boolean;
  /** Workers that must have the weights before the first step of this incarnation. At least 1. */
  readonly minWorkers: number;
  /** The fraction of assignments whose contributions somebody else must confirm. */
  readonly audit: number;
  readonly ownerBitClass: string;
  /** Refuse workers of another bit class than the owner's. */
  readonly exact: boolean;
  /** Whether the owner's adapter can compute micro-batches, as worker `OWNER`. */
  readonly ownerComputes: boolean;
  /** By person, the first step to which it contributed under an earlier coordinator of this run. */
  readonly firstSteps?: ReadonlyMap<string, number>;
  readonly policy?: Partial<Policy>;
}

export type JobKind = 'step' | 'evaluate';

/** Every event carries its time in milliseconds, from any clock that does not go backwards. */
export type RoundEvent = { readonly now: number } & (
  | /** A worker has proved the token and its bit class. */ {
      readonly type: 'worker-joined';
      readonly worker: WorkerId;
      readonly bitClass: string;
      /** The person that its votes and offences count for: connections of one address are one person. */
      readonly person: string;
    }
  | /** The owner's adapter cannot compute: its work is open again, and it is dealt nothing more. */ {
      readonly type: 'owner-unable';
    }
  | /** Its connection ended. Ignored if the round itself closed it. */ {
      readonly type: 'worker-left';
      readonly worker: WorkerId;
      readonly reason: string;
    }
  | /** Any byte was received (a pong, part of a frame). The shell may pass on only a few of these a second. */ {
      readonly type: 'life';
      readonly worker: WorkerId;
    }
  | /** The worker has begun `begun` micro-batches of the assignment so far. These can no longer be handed back. */ {
      readonly type: 'progress';
      readonly worker: WorkerId;
      readonly assignment: AssignmentId;
      readonly begun: number;
    }
  | /**
   * The answer to `hand-back`; the set may be empty. A worker that hands back what nobody asked for is fenced. Must
   * come before the assignment's first contribution, on the same connection. Handing back everything ends the
   * assignment.
   */ {
      readonly type: 'handed-back';
      readonly worker: WorkerId;
      readonly assignment: AssignmentId;
      readonly microBatches: IdSet;
    }
  | /**
   * A whole contribution has arrived; only its header has been read. Answered at once by exactly one of `add`, `check`
   * or `release`. `draw` is private randomness of the shell, uniform in [0, 1): the sender cannot know it before it has
   * sent.
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
   * format, or a value beyond count * 2^52), and `reason` says why. Either way its bytes are free.
   */ {
      readonly type: 'added';
      readonly contribution: ContributionId;
      readonly ok: boolean;
      readonly reason?: string;
    }
  | /** The answer to `check`: the digest of the payload, or undefined if it does not match its checksum. */ {
      readonly type: 'checked';
      readonly contribution: ContributionId;
      readonly digest: string | undefined;
    }
  | /**
   * Micro-batches of an assignment gave NaN, an infinity, or a value of at least 2^12. The worker has dropped the
   * assignment.
   */ {
      readonly type: 'refused';
      readonly worker: WorkerId;
      readonly assignment: AssignmentId;
      readonly microBatches: IdSet;
      readonly reason: string;
    }
  | /** The answer to `send`: the frame has left the coordinator's memory. */ {
      readonly type: 'sent';
      readonly worker: WorkerId;
    }
  | /** A worker found a wrong checksum for a bucket's weights; it gets the bucket whole. */ {
      readonly type: 'mismatch';
      readonly worker: WorkerId;
      readonly bucket: number;
    }
  | /** The answer to `norm`. */ { readonly type: 'norm-known' }
  | /** The answer to `update`. */ { readonly type: 'updated'; readonly bucket: number }
  | /**
   * Begins update `step`, the one after the last committed, from micro-batches 0 .. microBatches - 1 (at most 1024).
   * Only while there is no other job.
   */ {
      readonly type: 'begin-step';
      readonly step: number;
      readonly microBatches: number;
    }
  | /**
   * Begins an evaluation: the losses of micro-batches with the last committed weights. Only while there is no other
   * job.
   */ {
      readonly type: 'begin-evaluation';
      readonly microBatches: number;
    }
  | /** Abandons the current job: the last committed version stands. */ { readonly type: 'stop' }
  | /** Time has passed. Due a few times a second, or at `Round.wakeAt`. */ { readonly type: 'tick' }
);

/** The event of one type. */
export type EventOf<T extends RoundEvent['type']> = Extract<RoundEvent, { type: T }>;

/** Totals since this coordinator started. */
export interface RoundCounters {
  accepted: number;
  stale: number;
  impossible: number;
  /** Payloads that failed verification. */
  spoiled: number;
  refused: number;
  fenced: number;
  /** Micro-batches that were handed back. */
  handedBack: number;
  /** Contributions that were confirmed by an audit. */
  audited: number;
  wrongBuckets: number;
  /** Late assignments whose work was dealt a second time. */
  late: number;
  /** Refusals that were refuted. */
  refuted: number;
}

/** What the page shows of a worker. */
export interface WorkerView {
  readonly worker: WorkerId;
  readonly bitClass: string;
  /** Estimated time of one micro-batch, upload included; undefined before any measurement. */
  readonly microBatchMs: number | undefined;
  /** Micro-batches of the job that it has now. */
  readonly assigned: number;
  readonly fenced: boolean;
  /** It has the weights of the step, or will soon. */
  readonly ready: boolean;
}
