import { LantrainError } from '../../src/errors.js';
import type { MessageProgress } from '../../src/net/frame-meter.js';
import type { Limits } from './limits.js';
import type { PoolMember } from './receive-pool.js';

/** State of a connection at a tick. */
export interface Vitals {
  /**
   * `rawBytesIn`: all bytes received. `bytesOut`: payload bytes sent; the system has not taken `bufferedAmount` of
   * them.
   */
  readonly rawBytesIn: number;
  readonly bytesOut: number;
  readonly bufferedAmount: number;
  readonly isPaused: boolean;
  readonly progress: MessageProgress | undefined;
  readonly member: PoolMember | undefined;
}

/**
 * Detects at each tick what the other side has owed for too long: a sign of life, reading, the rest of a message, the
 * use of credit. Counts ticks rather than time: after a pause of this process the peers' bytes are still to be read.
 */
export class Overdue {
  #tickedAt = performance.now();
  #rawBytesIn = -1;
  #drained = -1;
  #silentTicks = 0;
  #stuckTicks = 0;
  /** Complete messages at the last tick, and how long the next one has been on its way. */
  #messages = 0;
  #messageMs = 0;

  /** `isGuarded`: the other side is not trusted, so any progress is not enough: there is a least rate. */
  constructor(
    private readonly limits: Limits,
    private readonly isGuarded: boolean,
  ) {}

  /**
   * Why the connection must end, if it must. With LT_CLUSTER_SILENT the peer can still take a goodbye, with other codes
   * not.
   */
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

  /** Whether the current message has had more time than its bytes need. */
  #isTrickling({ progress, isPaused }: Vitals, elapsedMs: number): boolean {
    if (!this.isGuarded || progress === undefined || isPaused) return false;
    const { messages, isUnfinished, declaredBytes } = progress;
    const isSame = isUnfinished && messages === this.#messages;
    this.#messages = messages;
    this.#messageMs = isSame ? this.#messageMs + elapsedMs : 0;
    return this.#messageMs > this.limits.messageMs + (1000 * declaredBytes) / this.limits.bytesPerSecond;
  }

  /**
   * Whether the peer has held credit for too long while others wait. Arrived bytes of its next frame count in its
   * favour.
   */
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
