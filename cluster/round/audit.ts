import { deriveKey, uniformAt } from '../../src/random.js';
import type { WorkerId } from './events.js';
import { emptySet, has, type IdSet, insert, membersOf } from './sets.js';

/** The stream of the choice; `Stream` in random.ts counts from 1. */
const AUDIT_STREAM = 0x61756474;

/** Whether the assignment dealt as number `serial` of `step` is audited. */
export function isAudited(fraction: number, seed: number, step: number, serial: number): boolean {
  return fraction > 0 && uniformAt(deriveKey(seed, AUDIT_STREAM, step), serial) < fraction;
}

export interface Vote {
  readonly worker: WorkerId;
  readonly digest: string;
}

export type Verdict =
  | /** One more copy is lacking or on its way. `disagreement`: this vote contradicts the first. */ {
      readonly verdict: 'open';
      readonly disagreement: boolean;
    }
  | { readonly verdict: 'agreed'; readonly wrong: readonly WorkerId[] }
  | { readonly verdict: 'hopeless'; readonly workers: readonly WorkerId[] };

/**
 * The audit of one assignment: its micro-batches are computed by two workers of one bit class, and a contribution is
 * added once two digests agree. Only digests are kept meanwhile: the bytes that are added are those of the last voter.
 *
 *     bucket:  no votes -> one vote -> two that agree: add           -> decided
 *                                   -> two that differ -> a third one agrees with one: add; the other is named
 *                                                      -> or with none: the run stops
 */
export class Trial {
  readonly #votes = new Map<number, Vote[]>();
  readonly #senders = new Map<number, readonly WorkerId[]>();
  /** By bucket: copies that are being digested, and copies that nobody computes yet. */
  readonly #checking: Uint8Array;
  readonly #lacking: Uint8Array;
  readonly decided: IdSet;
  /** Buckets that are used unaudited, since there is nobody to confirm them. */
  readonly waived: IdSet;

  /** Dealt to one worker already, so that one copy is lacking. `size`: of the set of all buckets. */
  constructor(
    readonly microBatches: IdSet,
    readonly bitClass: string,
    readonly buckets: IdSet,
    readonly size: number,
  ) {
    this.#checking = new Uint8Array(size);
    this.#lacking = new Uint8Array(size);
    this.decided = emptySet(size);
    this.waived = emptySet(size);
    for (const b of membersOf(buckets)) this.#lacking[b] = 1;
  }

  /** Buckets of which a copy is lacking. */
  lacking(): number[] {
    return [...membersOf(this.buckets)].filter((b) => this.#lacking[b] > 0);
  }

  /** One more copy of the bucket is lacking, or (with -1) one less. */
  want(bucket: number, copies: 1 | -1 = 1): void {
    if (!this.isOpen(bucket)) return;
    this.#lacking[bucket] += copies;
  }

  isOpen(bucket: number): boolean {
    return !has(this.decided, bucket) && !has(this.waived, bucket);
  }

  waive(bucket: number): void {
    insert(this.waived, bucket);
    this.#lacking[bucket] = 0;
  }

  votesOf(bucket: number): readonly Vote[] {
    return this.#votes.get(bucket) ?? [];
  }

  /** A worker's copy has come and is being digested. */
  arrive(bucket: number, worker: WorkerId): void {
    const senders = this.#senders.get(bucket) ?? [];
    this.#senders.set(bucket, [...senders, worker]);
    this.#checking[bucket]++;
  }

  digested(bucket: number): void {
    this.#checking[bucket]--;
  }

  hasSent(worker: WorkerId, bucket: number): boolean {
    return this.#senders.get(bucket)?.includes(worker) ?? false;
  }

  isChecking(bucket: number): boolean {
    return this.#checking[bucket] > 0;
  }

  get checksAny(): boolean {
    return this.#checking.some((n) => n > 0);
  }

  vote(bucket: number, vote: Vote): Verdict {
    const votes = [...this.votesOf(bucket), vote];
    this.#votes.set(bucket, votes);
    const agreeing = votes.filter((v) => v.digest === vote.digest);
    if (agreeing.length >= 2) {
      insert(this.decided, bucket);
      this.#lacking[bucket] = 0;
      const wrong = votes.filter((v) => v.digest !== vote.digest).map((v) => v.worker);
      return { verdict: 'agreed', wrong };
    }
    if (votes.length >= 3) return { verdict: 'hopeless', workers: votes.map((v) => v.worker) };
    if (votes.length === 2) this.#lacking[bucket]++;
    return { verdict: 'open', disagreement: votes.length === 2 };
  }
}
