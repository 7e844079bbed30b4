import { LantrainError } from '../../src/errors.js';
import type { FrameContext } from '../protocol/frame.js';
import { malformed } from '../protocol/malformed.js';
import type { CoordinatorMessage, WorkerMessage } from '../protocol/protocol.js';
import { MAX_MICRO_BATCHES } from '../round/sets.js';

/** Messages that a worker may send before it has joined. */
const BEFORE_JOIN: ReadonlySet<WorkerMessage['type']> = new Set(['join', 'leave']);

/** Cost of reading a whole bucket of weights from the adapter and sending it. */
const BUCKET_MS = 20;
/** Time that messages about an assignment may cost: for itself, for each micro-batch and for each bucket. */
const ASSIGNMENT_MS = { each: 2, microBatch: 0.5, bucket: 0.5 } as const;

/** Milliseconds that a worker's answers to a message may cost. */
export function earnedMs(message: CoordinatorMessage, frames: FrameContext | undefined): number {
  if (message.type !== 'assign' && message.type !== 'evaluate') return 0;
  const { each, microBatch, bucket } = ASSIGNMENT_MS;
  return each + microBatch * message.microBatches.length + bucket * (frames?.buckets ?? 0);
}

/**
 * Checks one worker's messages against its earlier ones: some may be sent only once, and no list may have duplicates.
 * The answers to such messages cost the coordinator far more than the messages cost their sender.
 */
export class MessageRules {
  readonly #said = new Set<string>();

  /**
   * Returns the milliseconds that a message costs later, in addition to its handling. Throws LT_CLUSTER_MALFORMED, or
   * LT_CLUSTER_LIMIT for a repeated message.
   */
  check(message: WorkerMessage, frames: FrameContext | undefined): number {
    const { type } = message;
    if (type === 'join') this.#once('join');
    else if (!this.#said.has('join') && !BEFORE_JOIN.has(type)) throw malformed(`${type} before join`);
    else if (type === 'probed') this.#once(`the hash of the probe ${message.probe}`);
    else if (type === 'mismatch') this.#distinct(message.buckets, frames?.buckets ?? 0);
    // An evaluation may have more micro-batches than a step has.
    else if (type === 'handed-back') this.#distinct(message.microBatches, MAX_MICRO_BATCHES);
    return type === 'mismatch' ? BUCKET_MS * message.buckets.length : 0;
  }

  #once(what: string): void {
    if (this.#said.has(what)) throw new LantrainError('LT_CLUSTER_LIMIT', `a worker said ${what} twice`);
    this.#said.add(what);
  }

  #distinct(items: readonly number[], most: number): void {
    if (items.length > most || new Set(items).size < items.length)
      throw malformed('a list that is too long, or names something twice');
  }
}
