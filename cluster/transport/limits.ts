import { MAX_FRAME_BYTES } from '../frame.js';

/** What one side of the transport allows; tests make it small. */
export interface Limits {
  /** Largest message of an authenticated peer. */
  readonly messageBytes: number;
  /** All that a connection may send before it has proved the token. */
  readonly handshakeBytes: number;
  readonly handshakeMs: number;
  /** Authenticated connections. */
  readonly connections: number;
  /** Connections that have not proved the token yet. */
  readonly pending: number;
  /** Memory for frames that arrived and are not used up yet, of all connections together. */
  readonly receivePoolBytes: number;
  /** A connection that holds credit while others wait must send within this time. */
  readonly creditMs: number;
  /** Frames wait while this much lies in the socket's queue. */
  readonly sendQueueBytes: number;
  /** A connection whose queue grows beyond this (by control messages) is closed. */
  readonly maxQueueBytes: number;
  readonly pingMs: number;
  /** Pings without a byte in return, or with a full queue that nobody reads, after which a connection is closed. */
  readonly missedPings: number;
}

export const DEFAULT_LIMITS: Limits = {
  messageBytes: MAX_FRAME_BYTES,
  handshakeBytes: 4096,
  handshakeMs: 10_000,
  connections: 256,
  pending: 32,
  receivePoolBytes: 256 * 2 ** 20,
  creditMs: 30_000,
  sendQueueBytes: 8 * 2 ** 20,
  maxQueueBytes: 64 * 2 ** 20,
  pingMs: 5_000,
  missedPings: 6,
};
