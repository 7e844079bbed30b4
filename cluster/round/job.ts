import type { JobKind, WorkerId } from './events.js';
import { emptySet, equalSets, fullSet, has, type IdSet, insert, insertAll, intersects, removeAll } from './sets.js';

/** What is being summed: one update, or the loss of one list of micro-batches. */
export class Job {
  readonly microBatches: IdSet;
  /** The buckets that it is about. */
  readonly buckets: IdSet;
  readonly #inside: IdSet[];
  readonly #adding: Uint32Array;
  #incomplete: number;
  readonly complete: IdSet;
  /** Who has refused a micro-batch, once for each time. */
  readonly strikes = new Map<number, WorkerId[]>();
  finite = true;
  /** Assignments dealt: chooses those that are audited. */
  serial = 0;

  /** `first`: the bucket it begins with; an evaluation is about the loss, the last one, only. */
  constructor(
    readonly kind: JobKind,
    readonly step: number,
    readonly evaluation: number | undefined,
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
