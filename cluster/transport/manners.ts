import { LantrainError } from '../../src/errors.js';
import type { FrameContext } from '../protocol/frame.js';
import { malformed } from '../protocol/malformed.js';
import type { WorkerMessage } from '../protocol/protocol.js';

/** What a worker says before it has joined. */
const BEFORE_JOIN: ReadonlySet<WorkerMessage['type']> = new Set(['join', 'leave']);

/** To read a whole bucket of weights from the adapter and send it. */
const BUCKET_MS = 20;

/**
 * Holds one worker's messages against those before them: what is said once is said once, and lists name everything
 * once. The answers to such messages cost the coordinator far more than the messages cost their sender.
 */
export class WorkerManners {
  readonly #said = new Set<string>();

  /**
   * Returns the milliseconds that a message costs later, beside being handled. Throws LT_CLUSTER_MALFORMED, or
   * LT_CLUSTER_LIMIT for what was said before.
   */
  check(message: WorkerMessage, frames: FrameContext | undefined): number {
    const { type } = message;
    if (type === 'join') this.#once('join');
    else if (!this.#said.has('join') && !BEFORE_JOIN.has(type)) throw malformed(`${type} before join`);
    else if (type === 'probed') this.#once(`the hash of the probe ${message.probe}`);
    else if (type === 'mismatch') this.#distinct(message.buckets, frames?.buckets ?? 0);
    else if (type === 'handed-back') this.#distinct(message.microBatches, frames?.microBatches ?? 0);
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
