import { LantrainError } from '../../src/errors.js';
import { Budget } from '../../src/util/budget.js';
import type { Wire } from './wire.js';

/** Bytes that may wait here; beyond that the socket is not read. */
const BACKLOG_BYTES = 2 ** 20;
/** Bytes that are free per millisecond, so that large messages are not charged for their size alone. */
const BYTES_PER_MS = 100_000;
/** The most milliseconds that one message is charged. A process may be stopped while it handles a message. */
const MOST_MS = 250;
/**
 * A connection that has to wait for its own budget too much of the time is closed. Waits caused by others of its
 * address do not count.
 */
const PATIENCE = { perSecond: 250, burst: 15_000 } as const;

export interface Arrived {
  readonly bytes: Uint8Array;
  /** Releases the bytes that the message counts for. */
  readonly release?: () => void;
}

export interface InboxOptions {
  readonly wire: Pick<Wire, 'pause' | 'resume'>;
  readonly handle: (message: Arrived) => void;
  /** Runs code that may throw where nothing else would catch it. */
  readonly guard: (work: () => void) => void;
  /** Total of bytes sent: bytes that a message makes this side send are charged to it. */
  readonly bytesSent: () => number;
  /** Budgets in milliseconds that each message is charged to; the first belongs to this connection alone. */
  readonly budgets: readonly Budget[];
}

/**
 * Delivers the messages of one connection in order. They wait while there is no listener yet, or the sender has used up
 * its budget of milliseconds. Meanwhile its socket is not read, so only this sender waits.
 */
export class Inbox {
  readonly #waiting: Arrived[] = [];
  #waitingBytes = 0;
  #isListening = false;
  #isClosed = false;
  /** This inbox has paused the socket. */
  #isPausing = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #patience = new Budget(PATIENCE.perSecond, PATIENCE.burst);

  constructor(private readonly options: InboxOptions) {}

  /** Removes and returns the oldest message, for a caller that wants them one by one. */
  shift(): Uint8Array | undefined {
    const first = this.#waiting.shift()?.bytes;
    this.#waitingBytes -= first?.length ?? 0;
    return first;
  }

  /**
   * Handles or stores a message. Throws LT_CLUSTER_LIMIT for a sender far beyond its budget, and what `handle` throws.
   */
  arrive(message: Arrived): void {
    if (this.#isListening && this.#waiting.length === 0 && this.#timer === undefined) {
      this.#handle(message);
      return;
    }
    this.#waiting.push(message);
    this.#waitingBytes += message.bytes.length;
    if (this.#waitingBytes > BACKLOG_BYTES) this.#pause();
  }

  /** Charges costs other than messages. Throws LT_CLUSTER_LIMIT for a sender far beyond its budget. */
  charge(milliseconds: number): void {
    for (const budget of this.options.budgets) budget.charge(milliseconds);
    this.#waitForBudget();
  }

  /** Credits the budgets: the other side was given work that it has to send messages about. */
  earn(milliseconds: number): void {
    for (const budget of this.options.budgets) budget.charge(-milliseconds);
  }

  /** Starts handling messages. */
  listen(): void {
    this.#isListening = true;
    this.#resume();
    this.#drain();
  }

  /** Drops waiting messages; none is handled any more. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    for (const { release } of this.#waiting.splice(0)) release?.();
  }

  #handle(message: Arrived): void {
    const { handle, bytesSent, budgets } = this.options;
    const [began, sent] = [performance.now(), bytesSent()];
    try {
      handle(message);
    } finally {
      const spent = Math.min(MOST_MS, performance.now() - began - message.bytes.length / BYTES_PER_MS);
      for (const budget of budgets) budget.charge(Math.max(0, spent) + (bytesSent() - sent) / BYTES_PER_MS);
    }
    this.#waitForBudget();
  }

  /** Stops reading and handling until the budgets are out of debt. */
  #waitForBudget(): void {
    if (this.#timer !== undefined || this.#isClosed) return;
    const waitMs = this.options.budgets.reduce((most, budget) => Math.max(most, budget.waitMs()), 0);
    if (waitMs === 0) return;
    this.#patience.charge(this.options.budgets[0].waitMs());
    if (this.#patience.waitMs() > 0)
      throw new LantrainError('LT_CLUSTER_LIMIT', 'a connection was closed: what it sends takes too much time');
    this.#pause();
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#drain();
    }, waitMs);
  }

  #drain(): void {
    while (this.#timer === undefined && !this.#isClosed) {
      const next = this.#waiting.shift();
      if (next === undefined) break;
      this.#waitingBytes -= next.bytes.length;
      this.options.guard(() => this.#handle(next));
    }
    if (this.#timer === undefined && !this.#isClosed) this.#resume();
  }

  #pause(): void {
    this.#isPausing = true;
    this.options.wire.pause();
  }

  #resume(): void {
    if (!this.#isPausing) return;
    this.#isPausing = false;
    this.options.wire.resume();
  }
}
