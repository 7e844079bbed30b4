import { weightsChecksum } from '../exchange/checksum.js';
import type { ClusterOwner } from '../exchange/owner.js';
import { HEADER_BYTES, sealFrame, type WeightsHeader } from '../protocol/frame.js';
import type { RoundAction } from '../round/round.js';
import type { CoordinatorConnection } from '../transport/connection.js';
import { FairSlots } from './fair-slots.js';
import type { RoundDriver } from './round-driver.js';

/** Largest number of whole buckets in memory on their way to all workers together. */
const MOST_WHOLES = 16;

/**
 * The queue of weights for one worker. Differences are ready at once but whole buckets must be read first, so the queue
 * keeps the order of the round's actions.
 */
export interface SendQueue {
  sent: Promise<void>;
  /** Takes a slot in memory for a whole bucket. */
  readonly takeWhole: () => Promise<() => void>;
}

/** Sends weights to workers: differences that are ready, and whole buckets that are read when their turn comes. */
export class WeightsOut {
  /** Each bucket's sealed differences to its newest stepped version. */
  readonly #differences: ({ readonly version: number; readonly message: Uint8Array } | undefined)[] = [];
  readonly #wholes = new FairSlots(MOST_WHOLES);
  /** Tail of the queue of whole-bucket reads and commits, in the order of the round's actions. */
  #ordered: Promise<void> = Promise.resolve();

  constructor(
    private readonly driver: RoundDriver,
    private readonly owner: ClusterOwner,
    private readonly incarnation: number,
    /** Version of the weights on the adapter, which follows the round's. */
    public version: number,
  ) {}

  sendQueueOf(person: string): SendQueue {
    return { sent: Promise.resolve(), takeWhole: this.#wholes.taker(person) };
  }

  /** Queues a bucket for a worker. Nothing is sent on a closed connection, which reports its end itself. */
  send(
    { worker, bucket, version, form }: Extract<RoundAction, { type: 'send' }>,
    connection: CoordinatorConnection,
    sendQueue: SendQueue,
  ): void {
    const kept = this.#differences[bucket];
    const difference = form === 'difference' && kept?.version === version ? kept.message : undefined;
    const sent = () => this.driver.event({ type: 'sent', worker });
    if (difference) {
      sendQueue.sent = sendQueue.sent.then(() => void connection.sendFrame(difference).then(sent, () => {}));
      return;
    }
    sendQueue.sent = sendQueue.sent.then(async () => {
      const free = await sendQueue.takeWhole();
      if (!connection.isOpen) return free();
      const message = await this.#readWhole(bucket);
      if (message === undefined) return free();
      connection
        .sendFrame(message)
        .then(sent, () => {})
        .finally(free);
    });
  }

  /** Packs the differences that lead an updated bucket to the weights of `step`, and keeps them to be sent. */
  async pack(bucket: number, step: number): Promise<void> {
    const message = await this.owner.pack(bucket, HEADER_BYTES);
    const [a, b] = new Uint32Array(message.buffer, HEADER_BYTES + 8, 2);
    const { exponent } = this.owner;
    this.#seal(message, { kind: 'weights-difference', step, base: step - 1, bucket, exponent, weights: { a, b } });
    this.#differences[bucket] = { version: step, message };
  }

  /** Runs `work` after everything queued before. Never rejects. */
  inOrder(work: () => Promise<void>): Promise<void> {
    this.#ordered = this.#ordered.then(work).catch((error) => this.driver.fail(error));
    return this.#ordered;
  }

  /** Resolves when all queued reads and commits are done. */
  settled(): Promise<void> {
    return this.#ordered;
  }

  /** The bucket's weights, sealed with their version at that time: the requested one or a later one. */
  async #readWhole(bucket: number): Promise<Uint8Array | undefined> {
    let message: Uint8Array | undefined;
    await this.inOrder(async () => {
      message = await this.owner.readWeights(bucket, HEADER_BYTES);
      const weights = weightsChecksum(new Uint32Array(message.buffer, HEADER_BYTES, this.owner.buckets[bucket].size));
      this.#seal(message, { kind: 'weights-whole', step: this.version, base: 0, bucket, exponent: 0, weights });
    });
    return this.driver.hasFailed ? undefined : message;
  }

  #seal(message: Uint8Array, header: Omit<WeightsHeader, 'incarnation' | 'assignment'>): void {
    sealFrame(message, { ...header, incarnation: this.incarnation, assignment: 0 });
  }
}
