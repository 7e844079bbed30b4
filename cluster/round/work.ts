import type { Trial } from './audit.js';
import type { AssignmentId, WorkerId } from './events.js';
import { equalSets, type IdSet, insertAll, isEmpty } from './sets.js';

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
 * So what is summed together is lacking together: an assignment is a part of one item.
 */
export interface WorkItem {
  microBatches: IdSet;
  buckets: IdSet;
  /** Refused before: goes to somebody else, and is not mixed with other work. */
  readonly alone?: boolean;
  /** Who has handed it back: gets it again only if there is nobody else. */
  readonly from?: WorkerId;
}

/** Work that one worker has: as an item, and how far it is. */
export interface Assignment {
  readonly id: AssignmentId;
  readonly worker: WorkerId;
  /** Without what was handed back; fixed once a contribution is there. */
  microBatches: IdSet;
  count: number;
  readonly buckets: IdSet;
  /** Buckets whose contribution has come. */
  readonly delivered: IdSet;
  remaining: number;
  begun: number;
  fixed: boolean;
  /** An answer to `ask-back` is on its way. */
  asked: boolean;
  /** It gave nothing back when it was asked. */
  exhausted: boolean;
  /** The audit that it is a copy for. */
  readonly trial: Trial | undefined;
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
        i.alone === item.alone &&
        i.from === item.from &&
        (equalSets(i.microBatches, item.microBatches) || (item.alone !== true && equalSets(i.buckets, item.buckets))),
    );
    if (other === undefined) this.#items.push({ ...item });
    else {
      other.microBatches = union(other.microBatches, item.microBatches);
      other.buckets = union(other.buckets, item.buckets);
    }
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
