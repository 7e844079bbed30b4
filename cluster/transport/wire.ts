import type { LantrainError } from '../../src/errors.js';
import type { MessageProgress } from '../../src/net/frame-meter.js';

/** What a WebSocket tells of itself. */
export interface WireEvents {
  /**
   * Bytes came, of whatever kind the implementation lets one see. `progress`, where it sees that much, is kept up to
   * date: messages that these bytes completed have been told of before.
   */
  heard(bytes: number, progress?: MessageProgress): void;
  /** A whole binary message; undefined for a text. */
  message(bytes: Uint8Array | undefined): void;
  /** The answer to a ping. */
  pong(sentAt: number): void;
  broke(error: LantrainError): void;
  closed(code: number, reason: string): void;
}

/** An open WebSocket: of the package `ws` (`node-wire.ts`) or of a browser (`../tab/browser-wire.ts`). */
export interface Wire {
  /** Host and port of the other side. */
  readonly peer: string;
  /** Bytes that were sent and that the system has not taken yet. */
  readonly bufferedAmount: number;
  readonly isPaused: boolean;
  /** Before anything can arrive. */
  listen(events: WireEvents): void;
  /** Sends a binary message; `taken` is called once the system has it, or with an error when it never will. */
  send(bytes: Uint8Array, taken?: (error?: LantrainError) => void): void;
  /** A ping of the WebSocket protocol. */
  ping(now: number): void;
  /** Stops reading, so that the other side has to wait, where the implementation can. */
  pause(): void;
  resume(): void;
  close(code: number, reason: string): void;
  /** Without a goodbye. */
  terminate(): void;
}
