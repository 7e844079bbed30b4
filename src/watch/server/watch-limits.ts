/** Limits of watchers. Tests make them small. */
export interface WatchLimits {
  readonly watchers: number;
  readonly pending: number;
  readonly handshakeMs: number;
  readonly messageBytes: number;
  /** Messages that one watcher may send in a second, and at once after a rest. */
  readonly messagesPerSecond: number;
  /** Milliseconds of the server's time that all watchers of one person may take in a second. */
  readonly msPerSecond: number;
  /** Milliseconds of it that they may take at once after a rest. */
  readonly burstMs: number;
  /** A watcher with more unread bytes is behind: it gets no updates. */
  readonly queueBytes: number;
  /** A watcher that is behind for this long is closed. */
  readonly behindMs: number;
  /** Milliseconds between updates. */
  readonly updateMs: number;
  /** The longest time between two signs of life. */
  readonly beatMs: number;
}

export const DEFAULT_WATCH_LIMITS: WatchLimits = {
  watchers: 32,
  pending: 16,
  handshakeMs: 10_000,
  messageBytes: 4096,
  messagesPerSecond: 40,
  msPerSecond: 20,
  burstMs: 200,
  queueBytes: 2 ** 20,
  behindMs: 20_000,
  updateMs: 500,
  beatMs: 5_000,
};
