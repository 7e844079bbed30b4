/** What watchers are allowed; tests make it small. */
export interface WatchLimits {
  readonly watchers: number;
  readonly pending: number;
  readonly handshakeMs: number;
  readonly messageBytes: number;
  /** Messages of one watcher in a second, and in a burst. */
  readonly messagesPerSecond: number;
  /** Milliseconds in a second, and at once after a rest, that all watchers of one address may take. */
  readonly msPerSecond: number;
  readonly burstMs: number;
  /** Updates are not sent to who has this much to read still; who stays behind is closed. */
  readonly queueBytes: number;
  readonly behindMs: number;
  /** Between updates, and at most between two signs of life. */
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
