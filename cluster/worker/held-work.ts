import { MAX_FRAME_BYTES } from '../protocol/frame.js';
import { malformed } from '../protocol/malformed.js';
import type { MicroBatchData } from '../protocol/protocol.js';

/** An assignment on its way: what has begun cannot be handed back, what is revoked need not be finished. */
export interface Work {
  readonly assignment: number;
  /** In the order in which they are computed, without what was handed back. */
  readonly microBatches: MicroBatchData[];
  begun: number;
  /** It is being computed, or waits for its weights. */
  running: boolean;
  revoked: boolean;
  /** That it counts for. */
  bytes: number;
}

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
  readonly #works = new Map<number, Work>();
  #bytes = 0;

  /** Throws LT_CLUSTER_MALFORMED where it is dealt twice, or is more than there may be. */
  begin(assignment: number, microBatches: readonly MicroBatchData[], buckets: readonly number[] = []): Work {
    if (this.#works.has(assignment)) throw malformed(`assignment ${assignment} is dealt twice`);
    const bytes =
      ASSIGNMENT_BYTES + BUCKET_BYTES * buckets.length + microBatches.reduce((sum, one) => sum + bytesOf(one), 0);
    if (this.#bytes + bytes > MOST_BYTES)
      throw malformed(`work of ${this.#bytes + bytes} bytes at once, more than ${MOST_BYTES}`);
    this.#bytes += bytes;
    // Copies: the ids are views of a message, of which nothing else is to be kept.
    const own = microBatches.map((one) => ({ ...one, tokens: one.tokens.slice(), targets: one.targets.slice() }));
    const work: Work = { assignment, microBatches: own, begun: 0, running: false, revoked: false, bytes };
    this.#works.set(assignment, work);
    return work;
  }

  /** Takes those of `wanted` out of an assignment that have not begun, and returns them. */
  handBack(assignment: number, wanted: readonly number[]): number[] {
    const work = this.#works.get(assignment);
    if (work === undefined) return [];
    const { microBatches } = work;
    const asked = new Set(wanted);
    const given = new Set(microBatches.slice(work.begun).filter(({ microBatch }) => asked.has(microBatch)));
    const kept = microBatches.filter((one) => !given.has(one));
    microBatches.splice(0, microBatches.length, ...kept);
    for (const one of given) this.#free(work, bytesOf(one));
    return [...given].map(({ microBatch }) => microBatch);
  }

  /** Nothing of an assignment counts any more; the work, if there is any. */
  revoke(assignment: number): Work | undefined {
    const work = this.#works.get(assignment);
    if (work !== undefined) work.revoked = true;
    return work;
  }

  revokeAll(): void {
    for (const work of this.#works.values()) work.revoked = true;
  }

  finish(work: Work): void {
    if (this.#works.delete(work.assignment)) this.#free(work, work.bytes);
  }

  #free(work: Work, bytes: number): void {
    work.bytes -= bytes;
    this.#bytes -= bytes;
  }
}

function bytesOf({ tokens, targets }: MicroBatchData): number {
  return MICRO_BATCH_BYTES + tokens.length + targets.length;
}
