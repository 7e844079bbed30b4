import type { Audit } from './audit.js';
import type { AssignmentId, WorkerId } from './events.js';
import type { Person } from './person.js';
import { equalSets, has, type IdSet, insertAll, intersects, isEmpty } from './sets.js';

/**
 * Work that nobody has: every micro-batch of `microBatches` is lacking in every bucket of `buckets`. Together with the
 * live assignments and the sets inside the buckets, the items tile the whole job, each place once:
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
 * So what is summed together is lacking together: an assignment is a part of one item. Two exceptions: late work is
 * dealt a second time, as a twin with the very micro-batches of the first, and the two count as one; and copies for
 * audits are no part of it.
 */
export interface WorkItem {
  microBatches: IdSet;
  buckets: IdSet;
  /** The refusal that this item is to check: it goes whole to somebody else, and is not mixed with other work. */
  readonly claim?: Claim;
  /** Who has handed it back: gets it again only if there is nobody else. */
  readonly from?: WorkerId;
  /** Was audited once, and there is nobody to confirm it: it is not audited again. */
  readonly waived?: boolean;
  /** Kept for workers that are about to prove themselves; whoever is idle may have it. */
  kept?: boolean;
}

/** Somebody's word that one of these micro-batches cannot be used. */
export interface Claim {
  readonly microBatches: IdSet;
  /** Who says so, once for each time. */
  readonly by: { readonly worker: WorkerId; readonly person: Person }[];
  /** What the last of them said. */
  reason: string;
}

/** Work that one worker has: as an item, and how far it is. */
export interface Assignment {
  readonly id: AssignmentId;
  readonly worker: WorkerId;
  /** Undefined for the owner's. */
  readonly person: Person | undefined;
  /** Without what was handed back; fixed once a contribution is there. */
  microBatches: IdSet;
  count: number;
  readonly buckets: IdSet;
  /** Buckets whose contribution has come. */
  readonly delivered: IdSet;
  remaining: number;
  /** Buckets of it that were used, or confirmed. */
  used: number;
  /** Contributions of it of which it is not decided whether they can be used. */
  undecided: number;
  begun: number;
  fixed: boolean;
  /** The micro-batches that the worker was asked for and has not answered about. */
  asked: IdSet | undefined;
  /** Not asked again: it gave nothing back, or another worker has all of it too. */
  exhausted: boolean;
  /** When it came to be the first that its worker has to do. */
  startedAt: number | undefined;
  isLate: boolean;
  /** From then on it is not waited for, where others can do without it. */
  hopelessAt: number;
  /** Another live assignment of the same micro-batches, since one of the two is late. The first contribution counts. */
  twin: Assignment | undefined;
  /** Whether it is audited has been decided. */
  drawn: boolean;
  /** Not to be audited: of an item that was waived. */
  readonly waived: boolean;
  /** The audit of its contributions. */
  audit: Audit | undefined;
  /** The audit that it is a copy for. It is no part of the tiling. */
  readonly copyOf: Audit | undefined;
}

/** The buckets of an assignment that have not come yet. */
export function undelivered(a: Assignment): IdSet {
  return a.buckets.map((word, w) => word & ~a.delivered[w]);
}

export class Pool {
  #items: WorkItem[] = [];

  get items(): readonly WorkItem[] {
    return this.#items;
  }

  /** Adds an item, to another one where the two make a rectangle. */
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
