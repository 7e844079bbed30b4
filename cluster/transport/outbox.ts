import type { LantrainError } from '../../src/errors.js';
import type { Limits } from './limits.js';
import { encodeMessage, type FromCoordinator, type FromWorker } from './messages.js';
import { MAX_WANTS } from './receive-pool.js';
import type { Wire } from './wire.js';

export interface OutboxOptions {
  readonly wire: Pick<Wire, 'send' | 'bufferedAmount'>;
  readonly limits: Pick<Limits, 'sendQueueBytes' | 'maxQueueBytes' | 'maxQueueMessages'>;
  /** Whether frames need the other side's credit. */
  readonly needsCredit: boolean;
  /** Whether the number of messages is limited as well. Short ones take far more memory than their bytes. */
  readonly countsMessages: boolean;
  /** Called when the queue is full: the other side does not read. */
  readonly onFull: () => void;
}

interface QueuedFrame {
  readonly message: Uint8Array;
  readonly resolve: () => void;
  readonly reject: (error: LantrainError) => void;
}

/**
 * Sends the messages of one connection. Control messages are sent at once. Frames wait in a queue of their own, and for
 * credit if it is needed.
 */
export class Outbox {
  /** Payload bytes given to the socket. */
  bytesSent = 0;
  readonly #frames: QueuedFrame[] = [];
  #credit = 0;
  /** Number of queued frames for which credit was requested. */
  #asked = 0;
  /** Control messages that the system has not taken yet. */
  #untaken = 0;
  readonly #taken = () => {
    this.#untaken--;
  };
  #closed: LantrainError | undefined;

  constructor(private readonly options: OutboxOptions) {}

  /** Sends a control message. Does nothing once the connection has ended. */
  send(message: FromWorker | FromCoordinator | Uint8Array): void {
    if (this.#closed !== undefined) return;
    const { wire, countsMessages } = this.options;
    const bytes = message instanceof Uint8Array ? message : encodeMessage(message);
    this.bytesSent += bytes.length;
    if (countsMessages) {
      this.#untaken++;
      wire.send(bytes, this.#taken);
    } else wire.send(bytes);
    this.#checkFull();
  }

  /** Resolves once the socket has taken the frame. Rejects if the connection ends first. */
  sendFrame(message: Uint8Array): Promise<void> {
    if (this.#closed !== undefined) return Promise.reject(this.#closed);
    return new Promise((resolve, reject) => {
      this.#frames.push({ message, resolve, reject });
      this.#askForCredit();
      this.#pump();
    });
  }

  /** The other side has granted credit for `bytes` more bytes of frames. */
  credited(bytes: number): void {
    this.#credit += bytes;
    this.#pump();
  }

  /** Rejects unsent frames. */
  close(error: LantrainError): void {
    this.#closed = error;
    for (const { reject } of this.#frames.splice(0)) reject(error);
  }

  #askForCredit(): void {
    if (!this.options.needsCredit) return;
    while (this.#asked < Math.min(this.#frames.length, MAX_WANTS)) {
      const { message } = this.#frames[this.#asked++];
      this.send({ type: 'want', bytes: message.length });
    }
  }

  #pump(): void {
    const { wire, limits, needsCredit } = this.options;
    while (this.#frames.length > 0 && wire.bufferedAmount < limits.sendQueueBytes) {
      const { message, resolve, reject } = this.#frames[0];
      if (needsCredit) {
        if (this.#credit < message.length) return;
        this.#credit -= message.length;
        this.#asked--;
      }
      this.#frames.shift();
      this.#askForCredit();
      this.bytesSent += message.length;
      wire.send(message, (error) => {
        if (error) reject(this.#closed ?? error);
        else {
          resolve();
          this.#pump();
        }
      });
      this.#checkFull();
    }
  }

  #checkFull(): void {
    const { wire, limits, onFull } = this.options;
    const isFull = wire.bufferedAmount > limits.maxQueueBytes || this.#untaken > limits.maxQueueMessages;
    if (isFull && this.#closed === undefined) onFull();
  }
}
