import { isErrorCode, LantrainError } from '../../src/errors.js';
import { Budget } from '../../src/util/budget.js';
import { decodeFrame, type Frame, type FrameContext, isFrame } from '../protocol/frame.js';
import { malformed } from '../protocol/malformed.js';
import { dispatch, type Handlers, type Message } from '../protocol/protocol.js';
import type { Connection, ConnectionStats } from './connection.js';
import type { MessageProgress } from './frame-meter.js';
import type { MessageChannel } from './handshake.js';
import { type Arrived, Inbox } from './inbox.js';
import type { Limits } from './limits.js';
import { encodeMessage, isOfTransport, type TransportMessage } from './messages.js';
import { Overdue, slow } from './overdue.js';
import { personOf } from './person.js';
import { MAX_WANTS, type PoolMember, type ReceivePool } from './receive-pool.js';
import type { Wire, WireEvents } from './wire.js';

/** Time for a polite goodbye before the socket is cut. */
const CLOSE_MS = 2_000;
/** What a close frame can carry besides its code. */
const REASON_BYTES = 123;
/** What a frame of the WebSocket protocol costs beside what its message does: pings and fragments are frames, too. */
const FRAME_MS = 0.005;
/** What an assignment may cost in messages about it: for itself, and for each of its micro-batches and of the buckets. */
const ASSIGNMENT_MS = { each: 2, microBatch: 0.5, bucket: 0.5 } as const;
/** WebSocket close codes: done, and any error of ours (RFC 6455, section 7.4.2: 4000 and up are private). */
const CLOSE_NORMAL = 1000;
const CLOSE_ERROR = 4000;

export interface Role<In extends Message> {
  readonly decode: (message: Uint8Array) => In | TransportMessage;
  readonly limits: Limits;
  /** The pool that frames from the other side are taken into; absent where the other side needs no credit. */
  readonly pool?: ReceivePool;
  /**
   * Whether the other side comes uninvited: it may send `handshakeBytes` at most before it is authenticated, and
   * afterwards what its budget allows.
   */
  readonly isGuarded: boolean;
  /** What all connections of the other side's address may use up together. */
  readonly personBudget?: Budget;
  /**
   * Returns the milliseconds that a message will cost beside being handled. Throws for one that is well formed and has
   * no business here, or not again.
   */
  readonly check?: (message: In, frames: FrameContext | undefined) => number;
  /** Whether frames to the other side need its credit. */
  readonly needsCredit: boolean;
  /**
   * Whether pings are messages, because one side is a browser: its WebSocket answers those of the protocol by itself,
   * without the page, and shows it none.
   */
  readonly pingsByMessage?: boolean;
}

interface QueuedFrame {
  readonly message: Uint8Array;
  readonly resolve: () => void;
  readonly reject: (error: LantrainError) => void;
}

let lastId = 0;

type Timer = ReturnType<typeof setInterval>;

/** In Node a timer must not keep the process alive; a browser's is a number. */
function unref(timer: number | { unref(): unknown }): void {
  if (typeof timer === 'object') timer.unref();
}

/**
 * What both sides make of an open WebSocket, whoever implements it (`wire.ts`). It begins as a `MessageChannel` for the
 * handshake, and `authenticated` turns it into a `Connection`.
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
  /** The transport's own `onClose`. */
  onEnd: () => void = () => {};

  #handlers: Handlers<In> | undefined;
  #closed: LantrainError | undefined;
  #authenticated = false;
  readonly #inbox: Inbox;
  #receiver:
    | { readonly resolve: (message: Uint8Array) => void; readonly reject: (error: LantrainError) => void }
    | undefined;

  readonly #queue: QueuedFrame[] = [];
  #credit = 0;
  /** Frames of the queue that credit was asked for. */
  #asked = 0;
  readonly #member: PoolMember | undefined;
  /** Bytes of frames in the hands of `onFrame`, where there is no pool. */
  #heldBytes = 0;
  #progress: MessageProgress | undefined;
  /** What it may still send once it is told to go: that for which it had credit may be on its way. */
  #lateBytes = 0;
  #wireFrames = 0;
  /** Messages to the other side that the system has not taken yet. */
  #queued = 0;
  readonly #taken = () => {
    this.#queued--;
  };

  #bytesIn = 0;
  #bytesOut = 0;
  #rawBytesIn = 0;
  #lastByteAt = performance.now();
  #roundTripMs = Number.NaN;
  readonly #timer: Timer;
  readonly #overdue: Overdue;

  constructor(
    private readonly wire: Wire,
    private readonly role: Role<In>,
  ) {
    this.peer = wire.peer;
    this.person = personOf(wire.peer);
    this.#member = role.pool?.member((bytes) => this.#granted(bytes), this.person);
    const { budget } = role.limits;
    const own = role.isGuarded ? [new Budget(budget.msPerSecond, budget.burstMs)] : [];
    this.#inbox = new Inbox({
      wire,
      handle: (message) => this.#handle(message),
      guard: (work) => this.#guard(work),
      bytesSent: () => this.#bytesOut,
      budgets: role.personBudget === undefined ? own : [...own, role.personBudget],
    });
    this.#overdue = new Overdue(role.limits, role.isGuarded);
    wire.listen(this);
    this.#timer = setInterval(() => this.#tick(), role.limits.pingMs);
    unref(this.#timer);
  }

  get isOpen(): boolean {
    return this.#closed === undefined;
  }

  /** Why it ended; undefined while it is open. */
  get endedBy(): LantrainError | undefined {
    return this.#closed;
  }

  get stats(): ConnectionStats {
    return {
      bytesIn: this.#bytesIn,
      bytesOut: this.#bytesOut,
      bufferedAmount: this.wire.bufferedAmount,
      roundTripMs: this.#roundTripMs,
      silentMs: performance.now() - this.#lastByteAt,
    };
  }

  get onControl(): Handlers<In> {
    if (this.#handlers === undefined) throw new Error('nobody handles messages yet');
    return this.#handlers;
  }

  /** Messages wait until this is set. */
  set onControl(handlers: Handlers<In>) {
    const isFirst = this.#handlers === undefined;
    this.#handlers = handlers;
    if (!isFirst) return;
    queueMicrotask(() => this.#inbox.listen());
  }

  /** The end of the handshake: larger messages are welcome, and wait for `onControl`. */
  authenticated(): void {
    this.#authenticated = true;
  }

  receive(): Promise<Uint8Array> {
    if (this.#closed !== undefined) return Promise.reject(this.#closed);
    const first = this.#inbox.shift();
    if (first !== undefined) return Promise.resolve(first);
    return new Promise((resolve, reject) => {
      this.#receiver = { resolve, reject };
    });
  }

  send(message: Out | Uint8Array): void {
    if (this.#closed !== undefined) return;
    this.#write(message instanceof Uint8Array ? message : encodeMessage(message));
    if (message instanceof Uint8Array || (message.type !== 'assign' && message.type !== 'evaluate')) return;
    const { each, microBatch, bucket } = ASSIGNMENT_MS;
    this.#inbox.earn(each + microBatch * message.microBatches.length + bucket * (this.frames?.buckets ?? 0));
  }

  sendFrame(message: Uint8Array): Promise<void> {
    if (this.#closed !== undefined) return Promise.reject(this.#closed);
    return new Promise((resolve, reject) => {
      this.#queue.push({ message, resolve, reject });
      this.#askForCredit();
      this.#pump();
    });
  }

  close(error = new LantrainError('LT_CLUSTER_CLOSED', 'the other side left')): void {
    this.#fail(error);
  }

  /** Frames have a `done`, and a queue of their own in front of the socket's. */
  #write(bytes: Uint8Array, done?: (error?: LantrainError) => void): void {
    this.#bytesOut += bytes.length;
    const { isGuarded, limits } = this.role;
    if (done === undefined && isGuarded) {
      this.#queued++;
      this.wire.send(bytes, this.#taken);
    } else this.wire.send(bytes, done);
    // Short messages take far more memory than their bytes, so they are counted as well.
    const isFull = this.wire.bufferedAmount > limits.maxQueueBytes || this.#queued > limits.maxQueueMessages;
    if (isFull && this.#closed === undefined) this.#cut(slow('its queue is full'));
  }

  #askForCredit(): void {
    if (!this.role.needsCredit) return;
    while (this.#asked < Math.min(this.#queue.length, MAX_WANTS)) {
      const { message } = this.#queue[this.#asked++];
      this.#write(encodeMessage({ type: 'want', bytes: message.length }));
    }
  }

  #pump(): void {
    while (this.#queue.length > 0 && this.wire.bufferedAmount < this.role.limits.sendQueueBytes) {
      const { message, resolve, reject } = this.#queue[0];
      if (this.role.needsCredit) {
        if (this.#credit < message.length) return;
        this.#credit -= message.length;
        this.#asked--;
      }
      this.#queue.shift();
      this.#askForCredit();
      this.#write(message, (error) => {
        if (error) reject(this.#closed ?? error);
        else {
          resolve();
          this.#pump();
        }
      });
    }
  }

  #granted(bytes: number): void {
    if (this.#closed === undefined) this.#write(encodeMessage({ type: 'credit', bytes }));
  }

  /** @internal */
  heard(bytes: number, progress?: MessageProgress): void {
    this.#rawBytesIn += bytes;
    this.#lastByteAt = performance.now();
    this.#progress = progress;
    const { isGuarded, limits } = this.role;
    if (!isGuarded) return;
    if (this.#closed !== undefined) {
      this.#lateBytes -= bytes;
      if (this.#lateBytes < 0) this.wire.terminate();
      return;
    }
    if (!this.#authenticated) {
      if (this.#rawBytesIn > limits.handshakeBytes) this.#cut(malformed('more than a handshake before it was over'));
      return;
    }
    if (progress === undefined) return;
    // Credit for messages that are here already has been taken.
    const { declaredBytes, frames } = progress;
    if (declaredBytes > Math.max(limits.controlBytes, this.#member?.grantedBytes ?? 0))
      this.#cut(uncovered(declaredBytes, this.#member?.grantedBytes ?? 0));
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
    this.#ended(closeReason(code, reason));
  }

  #arrived(bytes: Uint8Array | undefined): void {
    if (this.#closed !== undefined) return;
    if (bytes === undefined) throw malformed('text where bytes were due');
    this.#bytesIn += bytes.length;
    if (this.#receiver !== undefined) {
      const { resolve } = this.#receiver;
      this.#receiver = undefined;
      resolve(bytes);
      return;
    }
    const { bytesPerSecond, controlBytes } = this.role.limits;
    if (!this.#authenticated || this.#member === undefined) this.#inbox.arrive({ bytes });
    else if (isFrame(bytes)) this.#inbox.arrive({ bytes, release: this.#member.take(bytes.length, bytesPerSecond) });
    else if (bytes.length > controlBytes) throw malformed(`${bytes.length} bytes in a message that is no frame`);
    else this.#inbox.arrive({ bytes });
  }

  #handle({ bytes, release }: Arrived): void {
    if (this.#closed !== undefined) {
      release?.();
      return;
    }
    if (isFrame(bytes)) {
      this.#handleFrame(bytes, release ?? this.#hold(bytes.length));
      return;
    }
    const message = this.role.decode(bytes);
    if (isOfTransport(message)) {
      this.#answer(message);
      return;
    }
    const laterMs = this.role.check?.(message, this.frames) ?? 0;
    if (laterMs > 0) this.#inbox.charge(laterMs);
    dispatch(this.onControl, message);
  }

  #answer(message: TransportMessage): void {
    if (message.type === 'want' && this.#member !== undefined) this.#member.want(message.bytes);
    else if (message.type === 'credit' && this.role.needsCredit) {
      this.#credit += message.bytes;
      this.#pump();
    } else if (message.type === 'ping') this.#write(encodeMessage({ type: 'pong', at: message.at }));
    else if (message.type === 'pong') this.pong(message.at);
    else throw malformed(`${message.type} has no business here`);
  }

  #handleFrame(bytes: Uint8Array, release: () => void): void {
    let settled: void | Promise<void>;
    try {
      if (this.frames === undefined) throw malformed('a frame where none is due');
      settled = this.onFrame(decodeFrame(bytes, this.frames));
    } catch (error) {
      release();
      throw error;
    }
    if (settled === undefined) release();
    else
      settled.finally(release).catch((error) =>
        this.#guard(() => {
          throw error;
        }),
      );
  }

  /** Without a pool, the socket is not read while too much is in use. */
  #hold(bytes: number): () => void {
    const limit = this.role.limits.receivePoolBytes;
    this.#heldBytes += bytes;
    if (this.#heldBytes > limit) this.wire.pause();
    return () => {
      this.#heldBytes -= bytes;
      if (this.wire.isPaused && this.#heldBytes <= limit) this.wire.resume();
    };
  }

  /** An error with a code ends this connection; any other is a fault of this program and not hidden. */
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
      bytesOut: this.#bytesOut,
      bufferedAmount,
      isPaused,
      progress: this.#progress,
      member: this.#member,
    });
    if (why === undefined) this.#ping();
    else if (why.code === 'LT_CLUSTER_SILENT') this.#fail(why);
    else this.#cut(why);
  }

  #ping(): void {
    const now = performance.now();
    if (!this.role.pingsByMessage) this.wire.ping(now);
    else if (this.#authenticated) this.#write(encodeMessage({ type: 'ping', at: now }));
  }

  /** For a peer that may not take a goodbye. */
  #cut(error: LantrainError): void {
    this.#fail(error);
    this.wire.terminate();
  }

  #fail(error: LantrainError): void {
    if (this.#closed !== undefined) return;
    if (this.wire.isPaused) this.wire.resume();
    const { code, message } = error;
    if (code === 'LT_CLUSTER_CLOSED') this.wire.close(CLOSE_NORMAL, cutText(message));
    else this.wire.close(CLOSE_ERROR, cutText(`${code}: ${message}`));
    unref(setTimeout(() => this.wire.terminate(), CLOSE_MS));
    this.#ended(error);
  }

  #ended(error: LantrainError): void {
    if (this.#closed !== undefined) return;
    this.#closed = error;
    clearInterval(this.#timer);
    this.#inbox.close();
    this.#lateBytes = this.role.limits.controlBytes + (this.#member?.grantedBytes ?? 0);
    this.#member?.leave();
    this.#receiver?.reject(error);
    for (const { reject } of this.#queue.splice(0)) reject(error);
    this.onEnd();
    this.onClose(error);
  }
}

function cutText(text: string): string {
  const bytes = new TextEncoder().encode(text);
  return bytes.length <= REASON_BYTES
    ? text
    : new TextDecoder().decode(bytes.subarray(0, REASON_BYTES - 3)).replace(/\ufffd+$/, '');
}

/** What the other side said when it closed. */
function closeReason(code: number, reason: string): LantrainError {
  const [, name, message] = /^(LT_[A-Z_]+): (.*)$/s.exec(reason) ?? [];
  if (code === CLOSE_ERROR && name !== undefined && isErrorCode(name)) return new LantrainError(name, message);
  const said = reason === '' ? 'the connection ended' : reason;
  return new LantrainError('LT_CLUSTER_CLOSED', said);
}

const uncovered = (bytes: number, credit: number) =>
  new LantrainError('LT_CLUSTER_CREDIT', `a frame of ${bytes} bytes began with credit for ${credit}`);
