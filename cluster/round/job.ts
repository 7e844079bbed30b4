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

/** A person that failed a micro-batch this often in one job is dealt it only if nobody else can take it. */
export const MOST_FAILURES = 2;

/** One unit of summation: an update, or the loss of one list of micro-batches. */
export class Job {
  readonly microBatches: IdSet;
  /** The buckets that it sums. */
  readonly buckets: IdSet;
  readonly #inside: IdSet[];
  readonly #adding: Uint32Array;
  #incomplete: number;
  readonly complete: IdSet;
  /** Refusals that are neither believed nor refuted yet. */
  claims: Claim[] = [];
  finite = true;
  /** How often each person was dealt a micro-batch and did not do it. */
  readonly #returned = new Map<Person, Uint8Array>();

  /** `first`: the first bucket of the job. An evaluation has only the last one, the loss. */
  constructor(
    readonly kind: JobKind,
    /** The step that it computes; for an evaluation, the version of the weights. */
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

  /** A person was dealt these micro-batches and has not done them. */
  notDone(person: Person, microBatches: IdSet): void {
    const times = this.#returned.get(person) ?? new Uint8Array(this.count);
    this.#returned.set(person, times);
    for (const m of membersOf(microBatches)) times[m] = Math.min(255, times[m] + 1);
  }

  /** The largest number of failures of the person on any one of these micro-batches. */
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

  /** The micro-batches count as inside from now on, while they are being added. */
  claim(bucket: number, microBatches: IdSet): void {
    insertAll(this.#inside[bucket], microBatches);
    this.#adding[bucket]++;
  }

  /** A contribution has been added. Returns true if this completes the bucket. */
  added(bucket: number): boolean {
    this.#adding[bucket]--;
    if (this.#adding[bucket] > 0 || has(this.complete, bucket)) return false;
    if (!equalSets(this.#inside[bucket], this.microBatches)) return false;
    insert(this.complete, bucket);
    this.#incomplete--;
    return true;
  }

  /** Reverses `claim`: nothing was added. */
  unclaim(bucket: number, microBatches: IdSet): void {
    removeAll(this.#inside[bucket], microBatches);
    this.#adding[bucket]--;
  }
}
