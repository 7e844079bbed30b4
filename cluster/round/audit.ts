import type { WorkerId } from './events.js';
import type { Person } from './person.js';
import { emptySet, has, type IdSet, insert, membersOf, remove } from './sets.js';
import type { Assignment } from './work.js';

/** A person that was dealt this many copies is dealt no more. */
const MOST_COPIES = 2;

export interface Vote {
  readonly worker: WorkerId;
  /** Undefined for the owner's adapter. */
  readonly person: Person | undefined;
  readonly assignment: Assignment;
  readonly digest: string;
}

export type Verdict =
  | /** Another vote is needed. `disagreement`: this vote contradicts the one before. */ {
      readonly verdict: 'open';
      readonly disagreement: boolean;
    }
  | {
      readonly verdict: 'decided';
      readonly agreeing: readonly Vote[];
      readonly wrong: readonly Vote[];
    };

/** A person that was found wrong is not believed any more. */
const counts = ({ person }: Vote): boolean => person === undefined || person.wrong.size === 0;

/**
 * The audit of one assignment's contributions: somebody else computes the same micro-batches, and a contribution is
 * added once its digest is confirmed. Each person has one vote. Only digests are kept meanwhile: the bytes that are
 * added are the last voter's.
 *
 *     bucket:  one vote -> the owner's adapter votes: its result is added, and votes that differ are wrong
 *                       -> another person agrees: added
 *                       -> another person differs -> the owner's adapter decides, if it is of the bit class;
 *                                                    else a third person; else the run stops
 *                       -> nobody can confirm: open again, and not audited again
 */
export class Audit {
  readonly buckets: IdSet;
  readonly decided: IdSet;
  readonly #votes = new Map<number, Vote[]>();
  /** How often each person was dealt a copy; undefined: the owner. */
  readonly #dealt = new Map<Person | undefined, number>();
  /** Contributions that are being digested. */
  checking = 0;
  /** The one chosen to compute the next copy. */
  chosen: Person | 'owner' | undefined;

  /** `chance`: uniform in [0, 1) and private; chooses who confirms. `size`: the number of all buckets. */
  constructor(
    readonly assignment: Assignment,
    readonly microBatches: IdSet,
    readonly bitClass: string,
    public chance: number,
    size: number,
  ) {
    this.buckets = emptySet(size);
    this.decided = emptySet(size);
  }

  isOpen(bucket: number): boolean {
    return has(this.buckets, bucket) && !has(this.decided, bucket);
  }

  open(): number[] {
    return [...membersOf(this.buckets)].filter((b) => !has(this.decided, b));
  }

  /** Removes the bucket from the audit: its contributions cannot be used. */
  drop(bucket: number): void {
    remove(this.buckets, bucket);
    this.#votes.delete(bucket);
  }

  votesOf(bucket: number): readonly Vote[] {
    return this.#votes.get(bucket) ?? [];
  }

  /** Whether believed votes contradict each other. */
  isDisputed(bucket: number): boolean {
    return (
      new Set(
        this.votesOf(bucket)
          .filter(counts)
          .map((v) => v.digest),
      ).size > 1
    );
  }

  dealtTo(person: Person | undefined): void {
    this.#dealt.set(person, (this.#dealt.get(person) ?? 0) + 1);
  }

  /** Whether this person's vote on the bucket would count. */
  mayConfirm(person: Person | undefined, bucket: number): boolean {
    if ((this.#dealt.get(person) ?? 0) >= MOST_COPIES) return false;
    if (person === this.assignment.person || (person !== undefined && person.wrong.size > 0)) return false;
    return !this.votesOf(bucket).some((v) => v.person === person);
  }

  /** The person has refused its copy: the owner's adapter is next, if it can compute. */
  refusedBy(person: Person): void {
    this.#dealt.set(person, MOST_COPIES);
    this.chosen = 'owner';
  }

  vote(bucket: number, vote: Vote): Verdict {
    const votes = this.#votes.get(bucket) ?? [];
    this.#votes.set(bucket, votes);
    const disagreement = votes.length > 0 && votes[votes.length - 1].digest !== vote.digest;
    if (!votes.some((v) => v.person === vote.person)) votes.push(vote);
    const agreeing = votes.filter((v) => v.digest === vote.digest);
    if (vote.person !== undefined && agreeing.filter(counts).length < 2) return { verdict: 'open', disagreement };
    insert(this.decided, bucket);
    return { verdict: 'decided', agreeing, wrong: votes.filter((v) => v.digest !== vote.digest) };
  }
}
