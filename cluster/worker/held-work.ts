import { MAX_FRAME_BYTES } from '../protocol/frame.js';
import { malformed } from '../protocol/malformed.js';
import type { MicroBatchData } from '../protocol/protocol.js';
import { type DealtWork, Work } from './work.js';

/**
 * A coordinator deals a worker several assignments at once: shares of what others hand back or leave, copies for audits.
 * In simulated runs they were up to 7, which held a micro-batch up to 4 times, so their number says little. But all ids
 * of a step, or of an evaluation, fit one message.
 */
const MOST_BYTES = 4 * MAX_FRAME_BYTES;
/** What objects take beside the ids, roughly. */
const ASSIGNMENT_BYTES = 1024;
const MICRO_BATCH_BYTES = 512;
const BUCKET_BYTES = 8;

/** The assignments that a worker has, with a bound on the memory that a coordinator can make it spend on them. */
export class HeldWork {
  /** By assignment, with the bytes that it counts for. */
  readonly #works = new Map<number, { readonly work: Work; bytes: number }>();
  #bytes = 0;

  /** Throws LT_CLUSTER_MALFORMED where it is dealt twice, or is more than there may be. */
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

  /** Takes those of `wanted` out of an assignment that have not begun, and returns them. */
  handBack(assignment: number, wanted: readonly number[]): number[] {
    const held = this.#works.get(assignment);
    if (held === undefined) return [];
    const given = held.work.handBack(new Set(wanted));
    held.bytes -= bytesOf(given);
    this.#bytes -= bytesOf(given);
    return given.map(({ microBatch }) => microBatch);
  }

  /** Nothing of an assignment counts any more; the work, if there is any. */
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
  return microBatches.reduce((sum, { tokens, targets }) => sum + MICRO_BATCH_BYTES + tokens.length + targets.length, 0);
}
