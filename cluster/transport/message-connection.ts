import { LantrainError } from '../../src/errors.js';
import { closingOf, errorOf } from '../../src/net/close.js';
import { FRAME_MS, type MessageProgress } from '../../src/net/frame-meter.js';
import { personOf } from '../../src/net/person.js';
import { Budget } from '../../src/util/budget.js';
import { unref } from '../../src/util/unref.js';
import { type Frame, type FrameContext, isFrame } from '../protocol/frame.js';
import { malformed } from '../protocol/malformed.js';
import { dispatch, type Handlers, type Message } from '../protocol/protocol.js';
import type { Connection, ConnectionStats } from './connection.js';
import type { ConnectionRole } from './connection-role.js';
import type { ConnectionState } from './connection-state.js';
import { FrameIntake } from './frame-intake.js';
import type { MessageChannel } from './handshake.js';
import { type Arrived, Inbox } from './inbox.js';
import { isOfTransport, type TransportMessage } from './messages.js';
import { Outbox } from './outbox.js';
import { Overdue, slow } from './overdue.js';
import { type PoolMember, uncovered } from './receive-pool.js';
import type { Wire, WireEvents } from './wire.js';

/** Time for a goodbye before the socket is terminated. */
const CLOSE_MS = 2_000;
let lastId = 0;

/**
 * A connection of either side on an open WebSocket of any implementation (`wire.ts`). It begins as a `MessageChannel`
 * for the handshake; `authenticated` turns it into a `Connection`. Its parts have files of their own. What is left
 * here, about 300 lines, is the order in which they act.
 */
export class MessageConnection<In extends Message, Out extends Message>
  implements Connection<In, Out>, MessageChannel, WireEvents
{
  readonly id = ++lastId;
  readonly peer: string;
  readonly person: string;
  frames: FrameContext | undefined;
  onFrame: (frame: Frame) => void | Promise<void> = () => {};
  onClose: (error: LantrainError) => void = () => {};
  /** Like `onClose`, for the transport itself. */
  onEnd: () => void = () => {};

  #state: ConnectionState<In> = { name: 'handshake' };
  readonly #inbox: Inbox;
  readonly #intake: FrameIntake;
  readonly #outbox: Outbox;
  readonly #member: PoolMember | undefined;
  readonly #overdue: Overdue;
  readonly #timer: ReturnType<typeof setInterval>;

  #progress: MessageProgress | undefined;
  #wireFrames = 0;
  #bytesIn = 0;
  #rawBytesIn = 0;
  #lastByteAt = performance.now();
  #roundTripMs = Number.NaN;

  constructor(
    private readonly wire: Wire,
    private readonly role: ConnectionRole<In, Out>,
  ) {
    this.peer = wire.peer;
    this.person = personOf(wire.peer);
    const { limits, isGuarded, needsCredit, personBudget } = role;
    this.#member = role.pool?.member((bytes) => this.#outbox.send({ type: 'credit', bytes }), this.person);
    const guard = (work: () => void) => this.#guard(work);
    const own = isGuarded ? [new Budget(limits.budget.msPerSecond, limits.budget.burstMs)] : [];
    this.#outbox = new Outbox({
      wire,
      limits,
      needsCredit,
      countsMessages: isGuarded,
      onFull: () => this.#cut(slow('its queue is full')),
    });
    this.#inbox = new Inbox({
      wire,
      handle: (message) => this.#handle(message),
      guard,
      bytesSent: () => this.#outbox.bytesSent,
      budgets: personBudget === undefined ? own : [...own, personBudget],
    });
    this.#intake = new FrameIntake({ wire, mostBytes: limits.receivePoolBytes, guard });
    this.#overdue = new Overdue(limits, isGuarded);
    wire.listen(this);
    this.#timer = setInterval(() => this.#tick(), limits.pingMs);
    unref(this.#timer);
  }

  get isOpen(): boolean {
    return this.#state.name !== 'closed';
  }

  /** The error that ended it; undefined while it is open. */
  get endedBy(): LantrainError | undefined {
    return this.#state.name === 'closed' ? this.#state.why : undefined;
  }

  get stats(): ConnectionStats {
    return {
      bytesIn: this.#bytesIn,
      bytesOut: this.#outbox.bytesSent,
      bufferedAmount: this.wire.bufferedAmount,
      roundTripMs: this.#roundTripMs,
      silentMs: performance.now() - this.#lastByteAt,
    };
  }

  get onControl(): Handlers<In> {
    if (this.#state.name !== 'open') throw new Error(`nobody handles messages while it is ${this.#state.name}`);
    return this.#state.handlers;
  }

  /** Messages wait until this is set. Throws before the handshake is done. */
  set onControl(handlers: Handlers<In>) {
    const { name } = this.#state;
    if (name === 'closed') return;
    if (name === 'handshake') throw new Error('the other side is not known yet');
    this.#state = { name: 'open', handlers };
    if (name === 'waiting') queueMicrotask(() => this.#inbox.listen());
  }

  /** Ends the handshake: larger messages are allowed, and wait for `onControl`. */
  authenticated(): void {
    if (this.#state.name === 'handshake') this.#state = { name: 'waiting' };
  }

  /** The next message of the handshake. Rejects with the error that ended the connection. */
  async receive(): Promise<Uint8Array> {
    const state = this.#state;
    if (state.name === 'closed') throw state.why;
    if (state.name !== 'handshake') throw new Error('the handshake is over');
    const first = this.#inbox.shift();
    if (first !== undefined) return first;
    return new Promise((resolve, reject) => {
      state.receiver = { resolve, reject };
    });
  }

  send(message: Out | Uint8Array): void {
    this.#outbox.send(message);
    if (message instanceof Uint8Array) return;
    const earnedMs = this.role.earnedMs?.(message, this.frames) ?? 0;
    if (earnedMs > 0) this.#inbox.earn(earnedMs);
  }

  sendFrame(message: Uint8Array): Promise<void> {
    return this.#outbox.sendFrame(message);
  }

  close(error = new LantrainError('LT_CLUSTER_CLOSED', 'the other side left')): void {
    this.#fail(error);
  }

  /** @internal */
  heard(bytes: number, progress?: MessageProgress): void {
    this.#rawBytesIn += bytes;
    this.#lastByteAt = performance.now();
    this.#progress = progress;
    if (!this.role.isGuarded) return;
    const state = this.#state;
    if (state.name === 'closed') {
      state.lateBytes -= bytes;
      if (state.lateBytes < 0) this.wire.terminate();
    } else if (state.name === 'handshake') {
      if (this.#rawBytesIn > this.role.limits.handshakeBytes)
        this.#cut(malformed('more than a handshake before it was over'));
    } else if (progress !== undefined) this.#checkProgress(progress);
  }

  /** Checks a message before all of it is here: it must not exceed its credit, and its WebSocket frames are charged. */
  #checkProgress({ declaredBytes, frames }: MessageProgress): void {
    // Credit for complete messages has been taken already.
    const credit = this.#member?.grantedBytes ?? 0;
    if (declaredBytes > Math.max(this.role.limits.controlBytes, credit)) {
      this.#cut(uncovered(declaredBytes, credit));
      return;
    }
    const newFrames = frames - this.#wireFrames;
    this.#wireFrames = frames;
    this.#guard(() => this.#inbox.charge(newFrames * FRAME_MS));
  }

  /** @internal */
  message(bytes: Uint8Array | undefined): void {
    this.#guard(() => this.#arrived(bytes));
  }

  /** @internal */
  pong(sentAt: number): void {
    this.#roundTripMs = performance.now() - sentAt;
  }

  /** @internal */
  broke(error: LantrainError): void {
    this.#fail(error);
  }

  /** @internal */
  closed(code: number, reason: string): void {
    this.#ended(errorOf({ code, reason }));
  }

  #arrived(bytes: Uint8Array | undefined): void {
    const state = this.#state;
    if (state.name === 'closed') return;
    if (bytes === undefined) throw malformed('text where bytes were due');
    this.#bytesIn += bytes.length;
    if (state.name === 'handshake') {
      const { receiver } = state;
      state.receiver = undefined;
      if (receiver === undefined) this.#inbox.arrive({ bytes });
      else receiver.resolve(bytes);
      return;
    }
    const { bytesPerSecond, controlBytes } = this.role.limits;
    if (this.#member === undefined) this.#inbox.arrive({ bytes });
    else if (isFrame(bytes)) this.#inbox.arrive({ bytes, release: this.#member.take(bytes.length, bytesPerSecond) });
    else if (bytes.length > controlBytes) throw malformed(`${bytes.length} bytes in a message that is no frame`);
    else this.#inbox.arrive({ bytes });
  }

  /** The inbox delivers nothing before the connection is open. */
  #handle({ bytes, release }: Arrived): void {
    const state = this.#state;
    if (state.name !== 'open') {
      release?.();
      return;
    }
    if (isFrame(bytes)) {
      this.#intake.handle(bytes, this.frames, (frame) => this.onFrame(frame), release);
      return;
    }
    const message = this.role.decode(bytes);
    if (isOfTransport(message)) {
      this.#answer(message);
      return;
    }
    const laterMs = this.role.check?.(message, this.frames) ?? 0;
    if (laterMs > 0) this.#inbox.charge(laterMs);
    dispatch(state.handlers, message);
  }

  #answer(message: TransportMessage): void {
    if (message.type === 'want' && this.#member !== undefined) this.#member.want(message.bytes);
    else if (message.type === 'credit' && this.role.needsCredit) this.#outbox.credited(message.bytes);
    else if (message.type === 'ping') this.#outbox.send({ type: 'pong', at: message.at });
    else if (message.type === 'pong') this.pong(message.at);
    else throw malformed(`${message.type} has no business here`);
  }

  /** An error with a code ends this connection. Any other is a defect of this program and is thrown on. */
  #guard(work: () => void): void {
    try {
      work();
    } catch (error) {
      if (!(error instanceof LantrainError)) throw error;
      this.#fail(error);
    }
  }

  #tick(): void {
    const { bufferedAmount, isPaused } = this.wire;
    const why = this.#overdue.tick({
      rawBytesIn: this.#rawBytesIn,
      bytesOut: this.#outbox.bytesSent,
      bufferedAmount,
      isPaused,
      progress: this.#progress,
      member: this.#member,
    });
    if (why === undefined) {
      if (!this.role.pingsByMessage) this.wire.ping(performance.now());
      else if (this.#state.name !== 'handshake') this.#outbox.send({ type: 'ping', at: performance.now() });
    } else if (why.code === 'LT_CLUSTER_SILENT') this.#fail(why);
    else this.#cut(why);
  }

  /** Ends the connection without waiting: the peer may not accept a goodbye. */
  #cut(error: LantrainError): void {
    this.#fail(error);
    this.wire.terminate();
  }

  #fail(error: LantrainError): void {
    if (!this.isOpen) return;
    if (this.wire.isPaused) this.wire.resume();
    const { code, reason } = closingOf(error);
    this.wire.close(code, reason);
    unref(setTimeout(() => this.wire.terminate(), CLOSE_MS));
    this.#ended(error);
  }

  #ended(why: LantrainError): void {
    const before = this.#state;
    if (before.name === 'closed') return;
    const lateBytes = this.role.limits.controlBytes + (this.#member?.grantedBytes ?? 0);
    this.#state = { name: 'closed', why, lateBytes };
    clearInterval(this.#timer);
    this.#inbox.close();
    this.#outbox.close(why);
    this.#member?.leave();
    if (before.name === 'handshake') before.receiver?.reject(why);
    this.onEnd();
    this.onClose(why);
  }
}
