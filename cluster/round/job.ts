import type { JobKind } from './events.js';
import type { Person } from './person.js';
import {
  emptySet,
  equalSets,
  fullSet,
  has,
  type IdSet,
  insert,
  insertAll,
  intersects,
  membersOf,
  removeAll,
} from './sets.js';
import type { Claim } from './work.js';

/** A person that has not done a micro-batch this often in one job is dealt it only if nobody else can be. */
export const MOST_FAILURES = 2;

/** What is being summed: one update, or the loss of one list of micro-batches. */
export class Job {
  readonly microBatches: IdSet;
  /** The buckets that it is about. */
  readonly buckets: IdSet;
  readonly #inside: IdSet[];
  readonly #adding: Uint32Array;
  #incomplete: number;
  readonly complete: IdSet;
  /** Refusals that are neither believed nor refuted. */
  claims: Claim[] = [];
  finite = true;
  /** How often each person had a micro-batch and did not do it. */
  readonly #returned = new Map<Person, Uint8Array>();

  /** `first`: the bucket it begins with; an evaluation is about the loss, the last one, only. */
  constructor(
    readonly kind: JobKind,
    /** The step that it makes; of an evaluation, the version that it is of. */
    readonly step: number,
    readonly count: number,
    readonly totalBuckets: number,
    first: number,
  ) {
    this.microBatches = fullSet(count);
    this.buckets = emptySet(totalBuckets);
    for (let b = first; b < totalBuckets; b++) insert(this.buckets, b);
    this.#inside = Array.from({ length: totalBuckets }, () => emptySet(count));
    this.#adding = new Uint32Array(totalBuckets);
    this.#incomplete = totalBuckets - first;
    this.complete = emptySet(totalBuckets);
  }

  /** A person has not done these micro-batches, which it was dealt. */
  notDone(person: Person, microBatches: IdSet): void {
    const times = this.#returned.get(person) ?? new Uint8Array(this.count);
    this.#returned.set(person, times);
    for (const m of membersOf(microBatches)) times[m] = Math.min(255, times[m] + 1);
  }

  /** How often it has not done the one of these micro-batches that it failed most. */
  failuresOf(person: Person, microBatches: IdSet): number {
    const times = this.#returned.get(person);
    if (times === undefined) return 0;
    let most = 0;
    for (const m of membersOf(microBatches)) most = Math.max(most, times[m]);
    return most;
  }

  get allComplete(): boolean {
    return this.#incomplete === 0;
  }

  /** Whether none of the micro-batches is inside the bucket. */
  lacksAll(bucket: number, microBatches: IdSet): boolean {
    return !intersects(this.#inside[bucket], microBatches);
  }

  /** From now on the micro-batches are inside, while they are being added. */
  claim(bucket: number, microBatches: IdSet): void {
    insertAll(this.#inside[bucket], microBatches);
    this.#adding[bucket]++;
  }

  /** They have been added; true when this completes the bucket. */
  added(bucket: number): boolean {
    this.#adding[bucket]--;
    if (this.#adding[bucket] > 0 || has(this.complete, bucket)) return false;
    if (!equalSets(this.#inside[bucket], this.microBatches)) return false;
    insert(this.complete, bucket);
    this.#incomplete--;
    return true;
  }

  /** Nothing of them has been added. */
  unclaim(bucket: number, microBatches: IdSet): void {
    removeAll(this.#inside[bucket], microBatches);
    this.#adding[bucket]--;
  }
}
