import type { Audit } from './audit.js';
import type { AssignmentId, WorkerId } from './events.js';
import type { Person } from './person.js';
import { equalSets, has, type IdSet, insertAll, intersects, isEmpty } from './sets.js';

/**
 * Work that nobody has: every micro-batch of `microBatches` is lacking in every bucket of `buckets`. Items, live
 * assignments and the sets inside the buckets tile the whole job, each (micro-batch, bucket) once:
 *
 *              bucket 0   1   2   3 (loss)
 *     micro-     +-------------------+
 *     batch 0    | inside (worker 1) |
 *           1    |                   |
 *           2    +-------+-----------+        worker 2 was fenced after its first two buckets:
 *           3    | inside|   item    |        its micro-batches are lacking in the other two only
 *           4    +-------+-----------+
 *           5    | assignment of 3   |
 *                +-------------------+
 *
 * An assignment is a subset of one item, so the micro-batches that one worker sums are lacking in the same buckets. The
 * tiling has two exceptions. Late work is dealt a second time, as a twin with the same micro-batches, and the two count
 * as one. Copies for audits do not count.
 */
export interface WorkItem {
  microBatches: IdSet;
  buckets: IdSet;
  /**
   * The refusal that this item checks. The item goes to one worker of another person as a whole and is not merged with
   * other work.
   */
  readonly claim?: Claim;
  /** The worker that handed it back; it gets the item again only if there is nobody else. */
  readonly from?: WorkerId;
  /** It was audited once and nobody could confirm it, so it is not audited again. */
  readonly waived?: boolean;
  /** Kept for workers that are proving themselves; idle workers may take it. */
  kept?: boolean;
}

/** A refusal: one of these micro-batches is said to be unusable. */
export interface Claim {
  readonly microBatches: IdSet;
  /** The refusers, one entry for each refusal. */
  readonly by: { readonly worker: WorkerId; readonly person: Person }[];
  /** The reason that the last refuser gave. */
  reason: string;
}

/** Work that one worker has, and its progress. */
export interface Assignment {
  readonly id: AssignmentId;
  readonly worker: WorkerId;
  /** Undefined for the owner's adapter. */
  readonly person: Person | undefined;
  /** Without those that were handed back; fixed once a contribution has arrived. */
  microBatches: IdSet;
  count: number;
  readonly buckets: IdSet;
  /** Buckets whose contribution has arrived. */
  readonly delivered: IdSet;
  remaining: number;
  /** Number of its buckets that were used or confirmed. */
  used: number;
  /** Number of its contributions that may or may not be used. */
  undecided: number;
  begun: number;
  fixed: boolean;
  /** Micro-batches that the worker was asked to hand back and has not answered for. */
  asked: IdSet | undefined;
  /** Not to be asked again: it gave nothing back, or a twin has all of it. */
  exhausted: boolean;
  /** When it became the first in its worker's queue. */
  startedAt: number | undefined;
  isLate: boolean;
  /** Time after which it is given up if the run can do without it. */
  hopelessAt: number;
  /**
   * Another live assignment of the same micro-batches, dealt because one of the two is late. The first contribution
   * counts.
   */
  twin: Assignment | undefined;
  /** It has been decided whether it is audited. */
  drawn: boolean;
  /** Not to be audited: its item was waived. */
  readonly waived: boolean;
  /** The audit of its contributions. */
  audit: Audit | undefined;
  /** The audit that it is a copy for. Copies are not part of the tiling. */
  readonly copyOf: Audit | undefined;
}

/** Buckets of an assignment whose contribution has not arrived yet. */
export function undelivered(a: Assignment): IdSet {
  return a.buckets.map((word, w) => word & ~a.delivered[w]);
}

export class Pool {
  #items: WorkItem[] = [];

  get items(): readonly WorkItem[] {
    return this.#items;
  }

  /** Adds an item. Merges it with another one if both form a rectangle. */
  add(item: WorkItem): void {
    if (isEmpty(item.microBatches) || isEmpty(item.buckets)) return;
    const other = this.#items.find(
      (i) =>
        i.claim === item.claim &&
        i.from === item.from &&
        i.waived === item.waived &&
        (equalSets(i.microBatches, item.microBatches) ||
          (item.claim === undefined && equalSets(i.buckets, item.buckets))),
    );
    if (other === undefined) this.#items.push({ ...item });
    else {
      other.microBatches = union(other.microBatches, item.microBatches);
      other.buckets = union(other.buckets, item.buckets);
      other.kept = other.kept && item.kept;
    }
  }

  /** Whether any of the micro-batches is open in this bucket. */
  has(microBatches: IdSet, bucket: number): boolean {
    return this.#items.some((i) => has(i.buckets, bucket) && intersects(i.microBatches, microBatches));
  }

  delete(item: WorkItem): void {
    this.#items = this.#items.filter((i) => i !== item);
  }

  clear(): void {
    this.#items = [];
  }
}

function union(a: IdSet, b: IdSet): IdSet {
  const both = a.slice();
  insertAll(both, b);
  return both;
}
