import { MAX_FRAME_BYTES } from '../protocol/frame.js';

/** Limits of one side of the transport. Tests use small ones. */
export interface Limits {
  /** Largest message of an authenticated peer, in bytes. */
  readonly messageBytes: number;
  /** Largest message of a worker without credit: any except a frame. */
  readonly controlBytes: number;
  /** Bytes that a connection may send before it has proved the token. */
  readonly handshakeBytes: number;
  readonly handshakeMs: number;
  /** Largest number of authenticated connections. */
  readonly connections: number;
  /** Largest number of connections that have not proved the token yet. */
  readonly pending: number;
  /** Memory for arrived frames in use, of all connections together. */
  readonly receivePoolBytes: number;
  /**
   * Least average rate of a worker while something is due: the rest of a message, the use of credit that others wait
   * for, the reading of a queue. `messageMs` and `creditMs`: time before the rate counts.
   */
  readonly bytesPerSecond: number;
  readonly messageMs: number;
  readonly creditMs: number;
  /** Processing time of messages: of one worker, and of all workers of one address. */
  readonly budget: MessageBudget;
  readonly personBudget: MessageBudget;
  /** Frames wait while the socket's queue has this many bytes. */
  readonly sendQueueBytes: number;
  /** A connection is closed if its queue grows beyond this, in bytes or in control messages. */
  readonly maxQueueBytes: number;
  readonly maxQueueMessages: number;
  readonly pingMs: number;
  /**
   * Pings without any byte received, or with a queue that the other side does not read, after which a connection is
   * closed.
   */
  readonly missedPings: number;
}

export interface MessageBudget {
  readonly msPerSecond: number;
  readonly burstMs: number;
}

/**
 * Pings of a coordinator. A pong is a sign of life: a worker that computes for long sends nothing else, and five silent
 * seconds can fence it.
 */
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
