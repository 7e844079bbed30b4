import type { LantrainError } from '../../src/errors.js';
import type { MessageProgress } from '../../src/net/frame-meter.js';

/** Events of a WebSocket. */
export interface WireEvents {
  /**
   * Bytes arrived. `progress`: its counts go on changing; absent where the implementation sees whole messages only.
   * Messages that these bytes complete were reported before.
   */
  heard(bytes: number, progress?: MessageProgress): void;
  /** A complete binary message; undefined for a text message. */
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
  /** Sent bytes that the system has not taken yet. */
  readonly bufferedAmount: number;
  readonly isPaused: boolean;
  /** Call before anything can arrive. */
  listen(events: WireEvents): void;
  /** Sends a binary message. `taken` is called once the system has it, or with an error if it never will. */
  send(bytes: Uint8Array, taken?: (error?: LantrainError) => void): void;
  /** Sends a ping of the WebSocket protocol. */
  ping(now: number): void;
  /** Stops reading, if the implementation can, so that the other side has to wait. */
  pause(): void;
  resume(): void;
  close(code: number, reason: string): void;
  /** Ends the connection without a goodbye. */
  terminate(): void;
}
