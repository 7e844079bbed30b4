import { MAX_FRAME_BYTES } from '../protocol/frame.js';
import { malformed } from '../protocol/malformed.js';
import type { MicroBatchData } from '../protocol/protocol.js';
import { type DealtWork, Work } from './work.js';

/**
 * Bound of what one worker has been dealt. It is in bytes, because a coordinator can deal several assignments at once:
 * micro-batches that others hand back or leave, and copies for audits. In simulated runs a worker had up to 7
 * assignments, and up to 4 copies of one micro-batch. All token ids of a step or of an evaluation fit into one message,
 * so there is room for about 4 copies of each.
 */
const MOST_BYTES = 4 * MAX_FRAME_BYTES;
/** Approximate memory of the objects around the ids. */
const ASSIGNMENT_BYTES = 1024;
const MICRO_BATCH_BYTES = 512;
const BUCKET_BYTES = 8;

/** The assignments that a worker has, in bounded memory. */
export class HeldWork {
  /** By assignment, with its size in bytes. */
  readonly #works = new Map<number, { readonly work: Work; bytes: number }>();
  #bytes = 0;

  /** Throws LT_CLUSTER_MALFORMED if the assignment is dealt twice, or exceeds the memory bound. */
  begin(dealt: DealtWork): Work {
    const { assignment, microBatches, buckets = [] } = dealt;
    if (this.#works.has(assignment)) throw malformed(`assignment ${assignment} is dealt twice`);
    const bytes = ASSIGNMENT_BYTES + BUCKET_BYTES * buckets.length + bytesOf(microBatches);
    if (this.#bytes + bytes > MOST_BYTES)
      throw malformed(`work of ${this.#bytes + bytes} bytes at once, more than ${MOST_BYTES}`);
    this.#bytes += bytes;
    const work = new Work(dealt);
    this.#works.set(assignment, { work, bytes });
    return work;
  }

  /** Removes the micro-batches of `wanted` that have not begun, and returns their indices. */
  handBack(assignment: number, wanted: readonly number[]): number[] {
    const held = this.#works.get(assignment);
    if (held === undefined) return [];
    const given = held.work.handBack(new Set(wanted));
    held.bytes -= bytesOf(given);
    this.#bytes -= bytesOf(given);
    return given.map(({ microBatch }) => microBatch);
  }

  /** Voids an assignment. Returns its work, if it is held. */
  revoke(assignment: number): Work | undefined {
    const work = this.#works.get(assignment)?.work;
    work?.revoke();
    return work;
  }

  revokeAll(): void {
    for (const { work } of this.#works.values()) work.revoke();
  }

  finish({ dealt: { assignment } }: Work): void {
    this.#bytes -= this.#works.get(assignment)?.bytes ?? 0;
    this.#works.delete(assignment);
  }
}

function bytesOf(microBatches: readonly MicroBatchData[]): number {
  return microBatches.reduce((sum, { ids }) => sum + MICRO_BATCH_BYTES + ids.length, 0);
}
