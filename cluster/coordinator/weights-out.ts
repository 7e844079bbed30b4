import { weightsChecksum } from '../exchange/checksum.js';
import type { ClusterOwner } from '../exchange/owner.js';
import { HEADER_BYTES, sealFrame, type WeightsHeader } from '../protocol/frame.js';
import type { RoundAction } from '../round/round.js';
import type { CoordinatorConnection } from '../transport/connection.js';
import { FairSlots } from './fair-slots.js';
import type { RoundDriver } from './round-driver.js';

/** Whole buckets in memory on their way to workers, of all workers together. */
const MOST_WHOLES = 16;

/**
 * The way down to one worker. Whole buckets are read first and differences lie ready, so each worker has a queue that keeps
 * the order in which the round asked for them.
 */
export interface SendQueue {
  sent: Promise<void>;
  /** A place in memory for a whole bucket. */
  readonly takeWhole: () => Promise<() => void>;
}

/** Sends weights down: differences that lie ready, and whole buckets that are read when their turn comes. */
export class WeightsOut {
  /** The sealed differences of each bucket to the newest version that is stepped. */
  readonly #differences: ({ readonly version: number; readonly message: Uint8Array } | undefined)[] = [];
  readonly #wholes = new FairSlots(MOST_WHOLES);
  /** Reads of whole buckets and commits, in the order in which the round asked for them. */
  #ordered: Promise<void> = Promise.resolve();

  constructor(
    private readonly driver: RoundDriver,
    private readonly owner: ClusterOwner,
    private readonly incarnation: number,
    /** Updates behind the weights on the adapter, which follow the round's. */
    public version: number,
  ) {}

  sendQueueOf(person: string): SendQueue {
    return { sent: Promise.resolve(), takeWhole: this.#wholes.taker(person) };
  }

  /** Whoever is gone gets nothing: a connection that ends says so by itself. */
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

  /** Packs what turns the weights of an updated bucket into those of `step`, and keeps it for who is to be sent it. */
  async pack(bucket: number, step: number): Promise<void> {
    const message = await this.owner.pack(bucket, HEADER_BYTES);
    const [a, b] = new Uint32Array(message.buffer, HEADER_BYTES + 8, 2);
    this.#seal(message, { kind: 'weights-difference', step, base: step - 1, bucket, weights: { a, b } });
    this.#differences[bucket] = { version: step, message };
  }

  /** After what was asked for before. Never rejects. */
  inOrder(work: () => Promise<void>): Promise<void> {
    this.#ordered = this.#ordered.then(work).catch((error) => this.driver.fail(error));
    return this.#ordered;
  }

  /** Resolves when all reads and commits that were asked for are done. */
  settled(): Promise<void> {
    return this.#ordered;
  }

  /** The bucket's weights, sealed as the version that they are by then: the one that was asked for or a later one. */
  async #readWhole(bucket: number): Promise<Uint8Array | undefined> {
    let message: Uint8Array | undefined;
    await this.inOrder(async () => {
      message = await this.owner.readWeights(bucket, HEADER_BYTES);
      const weights = weightsChecksum(new Uint32Array(message.buffer, HEADER_BYTES));
      this.#seal(message, { kind: 'weights-whole', step: this.version, base: 0, bucket, weights });
    });
    return this.driver.hasFailed ? undefined : message;
  }

  #seal(message: Uint8Array, header: Omit<WeightsHeader, 'incarnation' | 'assignment'>): void {
    sealFrame(message, { ...header, incarnation: this.incarnation, assignment: 0 });
  }
}
