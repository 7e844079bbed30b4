import { LantrainError } from '../../src/errors.js';
import type { MessageProgress } from '../../src/net/frame-meter.js';
import type { Limits } from './limits.js';
import type { PoolMember } from './receive-pool.js';

/** A connection as it is at a tick. */
export interface Vitals {
  /** Bytes heard, of whatever kind, and payload bytes sent, of which the system has not taken `bufferedAmount`. */
  readonly rawBytesIn: number;
  readonly bytesOut: number;
  readonly bufferedAmount: number;
  readonly isPaused: boolean;
  readonly progress: MessageProgress | undefined;
  readonly member: PoolMember | undefined;
}

/**
 * Notices at each tick what the other side of a connection owes for too long: a sign of life, reading, the rest of a
 * message, the use of credit. Counts ticks rather than time: a process that was stopped for a while finds its peers'
 * bytes waiting.
 */
export class Overdue {
  #tickedAt = performance.now();
  #rawBytesIn = -1;
  #drained = -1;
  #silentTicks = 0;
  #stuckTicks = 0;
  /** Whole messages at the last tick, and how long the one after them has been on its way. */
  #messages = 0;
  #messageMs = 0;

  /** `isGuarded`: whether there is a least rate, and not just any progress, because the other side came uninvited. */
  constructor(
    private readonly limits: Limits,
    private readonly isGuarded: boolean,
  ) {}

  /** Why the connection has to end; LT_CLUSTER_SILENT is for a peer that takes a goodbye, the others are not. */
  tick(vitals: Vitals): LantrainError | undefined {
    const { pingMs, missedPings } = this.limits;
    const now = performance.now();
    const elapsedMs = Math.min(now - this.#tickedAt, 2 * pingMs);
    this.#tickedAt = now;
    this.#silentTicks = this.#isQuiet(vitals) ? this.#silentTicks + 1 : 0;
    this.#stuckTicks = this.#isStuck(vitals, elapsedMs) ? this.#stuckTicks + 1 : 0;
    if (this.#stuckTicks >= missedPings) return slow('it does not read what it is sent');
    if (this.#silentTicks >= missedPings)
      return new LantrainError('LT_CLUSTER_TIMEOUT', 'a connection was closed: nothing was heard of the other side');
    if (this.#isTrickling(vitals, elapsedMs)) return slow('a message that it began does not end');
    if (!this.#isHoarding(vitals, elapsedMs)) return undefined;
    return new LantrainError(
      'LT_CLUSTER_SILENT',
      'a connection was closed: it held credit that others waited for and sent nothing, or too little',
    );
  }

  #isQuiet({ rawBytesIn, isPaused }: Vitals): boolean {
    const isQuiet = rawBytesIn === this.#rawBytesIn && !isPaused;
    this.#rawBytesIn = rawBytesIn;
    return isQuiet;
  }

  #isStuck({ bytesOut, bufferedAmount }: Vitals, elapsedMs: number): boolean {
    const before = this.#drained;
    this.#drained = bytesOut - bufferedAmount;
    if (bufferedAmount === 0) return false;
    const dueBytes = this.isGuarded ? (this.limits.bytesPerSecond * elapsedMs) / 1000 : 0;
    return this.#drained <= before + (bufferedAmount > dueBytes ? dueBytes : 0);
  }

  /** Whether the message that is on its way has had more time than its bytes need. */
  #isTrickling({ progress, isPaused }: Vitals, elapsedMs: number): boolean {
    if (!this.isGuarded || progress === undefined || isPaused) return false;
    const { messages, isUnfinished, declaredBytes } = progress;
    const isSame = isUnfinished && messages === this.#messages;
    this.#messages = messages;
    this.#messageMs = isSame ? this.#messageMs + elapsedMs : 0;
    return this.#messageMs > this.limits.messageMs + (1000 * declaredBytes) / this.limits.bytesPerSecond;
  }

  /** Whether it has held credit for longer than others should wait; what is here of the next frame counts for it. */
  #isHoarding({ member, progress, isPaused }: Vitals, elapsedMs: number): boolean {
    if (member === undefined) return false;
    if (!isPaused) member.grow(elapsedMs);
    const { controlBytes, bytesPerSecond, creditMs } = this.limits;
    const { declaredBytes = 0, arrivedBytes = 0 } = progress ?? {};
    const usedBytes = declaredBytes > controlBytes ? arrivedBytes : 0;
    return member.ageMs - (1000 * usedBytes) / bytesPerSecond > creditMs;
  }
}

export const slow = (why: string) => new LantrainError('LT_CLUSTER_SLOW', `a connection was closed: ${why}`);
