import { MAX_FRAME_BYTES } from '../protocol/frame.js';

/** What one side of the transport allows; tests make it small. */
export interface Limits {
  /** Largest message of an authenticated peer. */
  readonly messageBytes: number;
  /** Largest message of a worker that needs no credit: any but a frame. */
  readonly controlBytes: number;
  /** All that a connection may send before it has proved the token. */
  readonly handshakeBytes: number;
  readonly handshakeMs: number;
  /** Authenticated connections. */
  readonly connections: number;
  /** Connections that have not proved the token yet. */
  readonly pending: number;
  /** Memory for frames that arrived and are not used up yet, of all connections together. */
  readonly receivePoolBytes: number;
  /**
   * What a worker sends or reads at least, on average, while something is due: a message that has begun, credit that
   * others wait for, a queue that is to be read. It has so long before that counts: for a message, and for credit.
   */
  readonly bytesPerSecond: number;
  readonly messageMs: number;
  readonly creditMs: number;
  /** Milliseconds in a second, and at once after a rest, that a worker's messages may take: of one, and of all of one address. */
  readonly budget: MessageBudget;
  readonly personBudget: MessageBudget;
  /** Frames wait while this much lies in the socket's queue. */
  readonly sendQueueBytes: number;
  /** A connection whose queue grows beyond this (by control messages), in bytes or in messages, is closed. */
  readonly maxQueueBytes: number;
  readonly maxQueueMessages: number;
  readonly pingMs: number;
  /** Pings without a byte in return, or with a full queue that nobody reads, after which a connection is closed. */
  readonly missedPings: number;
}

export interface MessageBudget {
  readonly msPerSecond: number;
  readonly burstMs: number;
}

/** Of a coordinator. A pong is life: a worker that computes long says nothing else, and five silent seconds can fence it. */
export const COORDINATOR_LIFE: Pick<Limits, 'pingMs' | 'missedPings'> = { pingMs: 1_000, missedPings: 30 };

export const DEFAULT_LIMITS: Limits = {
  messageBytes: MAX_FRAME_BYTES,
  controlBytes: 2 ** 16,
  handshakeBytes: 4096,
  handshakeMs: 10_000,
  connections: 256,
  pending: 32,
  receivePoolBytes: 256 * 2 ** 20,
  bytesPerSecond: 2 ** 14,
  messageMs: 30_000,
  creditMs: 30_000,
  budget: { msPerSecond: 100, burstMs: 1_000 },
  personBudget: { msPerSecond: 200, burstMs: 2_000 },
  sendQueueBytes: 8 * 2 ** 20,
  maxQueueBytes: 64 * 2 ** 20,
  maxQueueMessages: 2 ** 14,
  pingMs: 5_000,
  missedPings: 6,
};
