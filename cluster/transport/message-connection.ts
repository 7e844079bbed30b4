import { isErrorCode, LantrainError } from '../../src/errors.js';
import {
  decodeFrame,
  dispatch,
  encodeMessage,
  type Frame,
  type FrameContext,
  type Handlers,
  isFrame,
  type Message,
  malformed,
} from '../protocol.js';
import type { Connection, ConnectionStats } from './connection.js';
import type { MessageChannel } from './handshake.js';
import type { Limits } from './limits.js';
import { MAX_WANTS, type PoolMember, type ReceivePool } from './receive-pool.js';
import type { Wire, WireEvents } from './wire.js';

/** Time for a polite goodbye before the socket is cut. */
const CLOSE_MS = 2_000;
/** What a close frame can carry besides its code. */
const REASON_BYTES = 123;
/** What may arrive before anybody listens; then the socket is not read any more. */
const BACKLOG_BYTES = 2 ** 20;
/** WebSocket close codes: done, and any error of ours (RFC 6455, section 7.4.2: 4000 and up are private). */
const CLOSE_NORMAL = 1000;
const CLOSE_ERROR = 4000;

export interface Role<In extends Message> {
  readonly decode: (message: Uint8Array) => In;
  readonly limits: Limits;
  /** The pool that frames from the other side are taken into; absent where the other side needs no credit. */
  readonly pool?: ReceivePool;
  /** Whether the other side comes uninvited, and may send `handshakeBytes` at most before it is authenticated. */
  readonly isGuarded: boolean;
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
  frames: FrameContext | undefined;
  onFrame: (frame: Frame) => void | Promise<void> = () => {};
  onClose: (error: LantrainError) => void = () => {};
  /** The transport's own `onClose`. */
  onEnd: () => void = () => {};

  #handlers: Handlers<In> | undefined;
  #closed: LantrainError | undefined;
  #authenticated = false;
  /** Messages that nobody has asked for yet. */
  readonly #backlog: Uint8Array[] = [];
  #backlogBytes = 0;
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
  #creditUsedAt = 0;

  #bytesIn = 0;
  #bytesOut = 0;
  #rawBytesIn = 0;
  #lastByteAt = performance.now();
  #roundTripMs = Number.NaN;
  readonly #timer: Timer;
  #rawBytesAtPing = -1;
  #drainedAtPing = -1;
  #silentPings = 0;
  #stuckPings = 0;

  constructor(
    private readonly wire: Wire,
    private readonly role: Role<In>,
  ) {
    this.peer = wire.peer;
    this.#member = role.pool?.member((bytes) => this.#granted(bytes));
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
    return this.#handlers ?? {};
  }

  /** Messages wait until this is set. */
  set onControl(handlers: Handlers<In>) {
    const isFirst = this.#handlers === undefined;
    this.#handlers = handlers;
    if (!isFirst) return;
    queueMicrotask(() => {
      this.wire.resume();
      for (const message of this.#backlog.splice(0)) this.#guard(() => this.#handle(message));
    });
  }

  /** The end of the handshake: larger messages are welcome, and wait for `onControl`. */
  authenticated(): void {
    this.#authenticated = true;
  }

  receive(): Promise<Uint8Array> {
    if (this.#closed !== undefined) return Promise.reject(this.#closed);
    const first = this.#backlog.shift();
    if (first !== undefined) return Promise.resolve(first);
    return new Promise((resolve, reject) => {
      this.#receiver = { resolve, reject };
    });
  }

  send(message: Out | Uint8Array): void {
    if (this.#closed !== undefined) return;
    const bytes = message instanceof Uint8Array ? message : encodeMessage(message);
    this.#write(bytes);
    if (this.wire.bufferedAmount > this.role.limits.maxQueueBytes) this.#cut(slow('its queue is full'));
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

  #write(bytes: Uint8Array, done?: (error?: LantrainError) => void): void {
    this.#bytesOut += bytes.length;
    this.wire.send(bytes, done);
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
    this.#creditUsedAt = performance.now();
    if (this.#closed === undefined) this.#write(encodeMessage({ type: 'credit', bytes }));
  }

  /** @internal */
  heard(bytes: number): void {
    this.#rawBytesIn += bytes;
    this.#lastByteAt = performance.now();
    if (this.role.isGuarded && !this.#authenticated && this.#rawBytesIn > this.role.limits.handshakeBytes)
      this.#cut(malformed('more than a handshake before it was over'));
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

  #arrived(message: Uint8Array | undefined): void {
    if (this.#closed !== undefined) return;
    if (message === undefined) throw malformed('text where bytes were due');
    this.#bytesIn += message.length;
    if (this.#receiver !== undefined) {
      const { resolve } = this.#receiver;
      this.#receiver = undefined;
      resolve(message);
    } else if (this.#handlers === undefined || this.#backlog.length > 0) {
      this.#backlog.push(message);
      this.#backlogBytes += message.length;
      if (this.#backlogBytes > BACKLOG_BYTES) this.wire.pause();
    } else this.#handle(message);
  }

  #handle(bytes: Uint8Array): void {
    if (this.#closed !== undefined) return;
    if (isFrame(bytes)) {
      this.#handleFrame(bytes);
      return;
    }
    const message = this.role.decode(bytes);
    if (message.type === 'want' && this.#member !== undefined) this.#member.want(message.bytes);
    else if (message.type === 'credit' && this.role.needsCredit) {
      this.#credit += message.bytes;
      this.#pump();
    } else if (message.type === 'ping') this.#write(encodeMessage({ type: 'pong', at: message.at }));
    else if (message.type === 'pong') this.pong(message.at);
    else if (!dispatch(this.onControl, message)) throw malformed(`${message.type} has no business here`);
  }

  #handleFrame(bytes: Uint8Array): void {
    if (this.frames === undefined) throw malformed('a frame where none is due');
    this.#creditUsedAt = performance.now();
    const release = this.#member?.take(bytes.length) ?? this.#hold(bytes.length);
    let settled: void | Promise<void>;
    try {
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

  /** Counts pings rather than time: a process that was stopped for a while finds its peers' bytes waiting. */
  #tick(): void {
    const { limits } = this.role;
    const isQuiet = this.#rawBytesIn === this.#rawBytesAtPing && !this.wire.isPaused;
    this.#silentPings = isQuiet ? this.#silentPings + 1 : 0;
    this.#rawBytesAtPing = this.#rawBytesIn;
    const drained = this.#bytesOut - this.wire.bufferedAmount;
    const isStuck = this.wire.bufferedAmount > 0 && drained <= this.#drainedAtPing;
    this.#stuckPings = isStuck ? this.#stuckPings + 1 : 0;
    this.#drainedAtPing = drained;
    if (this.#stuckPings >= limits.missedPings) this.#cut(slow('it does not read what it is sent'));
    else if (this.#silentPings >= limits.missedPings) this.#cut(timeout('nothing was heard of the other side'));
    else if (this.#isHoarding()) this.#fail(silent());
    else if (this.#closed === undefined) this.#ping();
  }

  #ping(): void {
    const now = performance.now();
    if (!this.role.pingsByMessage) this.wire.ping(now);
    else if (this.#authenticated) this.#write(encodeMessage({ type: 'ping', at: now }));
  }

  #isHoarding(): boolean {
    if (this.#member === undefined || this.#member.grantedBytes === 0 || !this.role.pool?.isShort) return false;
    return performance.now() - this.#creditUsedAt > this.role.limits.creditMs;
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
    this.#member?.leave();
    this.#receiver?.reject(error);
    for (const { reject } of this.#queue.splice(0)) reject(error);
    this.#backlog.length = 0;
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

const slow = (why: string) => new LantrainError('LT_CLUSTER_SLOW', `a connection was closed: ${why}`);
const timeout = (why: string) => new LantrainError('LT_CLUSTER_TIMEOUT', `a connection was closed: ${why}`);
const silent = () =>
  new LantrainError(
    'LT_CLUSTER_SILENT',
    'a connection was closed: it held credit that others waited for and sent nothing',
  );
