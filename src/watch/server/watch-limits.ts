/** Limits of watchers. Tests make them small. */
export interface WatchLimits {
  readonly watchers: number;
  readonly pending: number;
  readonly handshakeMs: number;
  readonly messageBytes: number;
  /** Messages of one watcher a second, and in a burst. */
  readonly messagesPerSecond: number;
  /** Milliseconds a second, and in a burst, that all watchers of one person may take. */
  readonly msPerSecond: number;
  readonly burstMs: number;
  /** A watcher with this many unread bytes gets no updates, and is closed if it stays behind. */
  readonly queueBytes: number;
  readonly behindMs: number;
  /** Milliseconds between updates, and at most between two signs of life. */
  readonly updateMs: number;
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
