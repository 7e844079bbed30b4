import { LantrainError } from '../../src/errors.js';
import { Budget } from '../../src/util/budget.js';
import type { Wire } from './wire.js';

/** What may arrive before anybody listens; then the socket is not read any more. */
const BACKLOG_BYTES = 2 ** 20;
/** What the bytes of a message may cost by themselves, so that large ones are not charged for being large. */
const BYTES_PER_MS = 100_000;
/** A process that is stopped while it handles a message has not spent that time. */
const MOST_MS = 250;
/**
 * Who waits for its own budget for more than a part of the time, and long, does not mean to keep to it. What others of its
 * address use up makes it wait, too, and is no fault of its own.
 */
const PATIENCE = { perSecond: 250, burst: 15_000 } as const;

export interface Arrived {
  readonly bytes: Uint8Array;
  /** Gives back what the message counts against. */
  readonly release?: () => void;
}

export interface InboxOptions {
  readonly wire: Pick<Wire, 'pause' | 'resume'>;
  readonly handle: (message: Arrived) => void;
  /** Runs what may throw, where nobody else would catch it. */
  readonly guard: (work: () => void) => void;
  /** Counts bytes sent: what a message makes this side send is charged as well. */
  readonly bytesSent: () => number;
  /** All that a message is charged to, in milliseconds; the first one is of this connection alone. */
  readonly budgets: readonly Budget[];
}

/**
 * The messages of one connection, handed on in their order: at once if it may be, later where nobody listens yet or the
 * sender has used up its budget of milliseconds. Meanwhile its socket is not read, so that it waits and nobody else.
 */
export class Inbox {
  readonly #waiting: Arrived[] = [];
  #waitingBytes = 0;
  #isListening = false;
  #isClosed = false;
  /** Whether the socket is not read because of this inbox. */
  #isPausing = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly #patience = new Budget(PATIENCE.perSecond, PATIENCE.burst);

  constructor(private readonly options: InboxOptions) {}

  /** Takes what came first away, for who asks for messages one by one. */
  shift(): Uint8Array | undefined {
    const first = this.#waiting.shift()?.bytes;
    this.#waitingBytes -= first?.length ?? 0;
    return first;
  }

  /** Throws LT_CLUSTER_LIMIT for a sender far beyond its budget, and what handling it throws. */
  arrive(message: Arrived): void {
    if (this.#isListening && this.#waiting.length === 0 && this.#timer === undefined) {
      this.#handle(message);
      return;
    }
    this.#waiting.push(message);
    this.#waitingBytes += message.bytes.length;
    if (this.#waitingBytes > BACKLOG_BYTES) this.#pause();
  }

  /** For what costs time without being a message. Throws LT_CLUSTER_LIMIT. */
  charge(milliseconds: number): void {
    for (const budget of this.options.budgets) budget.charge(milliseconds);
    this.#waitForBudget();
  }

  /** The other side was given something to do, about which it will have to say something. */
  earn(milliseconds: number): void {
    for (const budget of this.options.budgets) budget.charge(-milliseconds);
  }

  /** From now on messages are handled. */
  listen(): void {
    this.#isListening = true;
    this.#resume();
    this.#drain();
  }

  /** Nothing more is handled. */
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

  /** In debt, nothing is read and nothing is handled for so long. */
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
