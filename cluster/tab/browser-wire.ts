import { LantrainError } from '../../src/errors.js';
import { malformed } from '../protocol/malformed.js';
import type { Wire, WireEvents } from '../transport/wire.js';

/** How often the socket's queue is polled while a send waits: a browser has no event for it. */
const DRAIN_MS = 4;

interface PendingSend {
  /** Bytes sent up to the end of the message. */
  readonly upTo: number;
  readonly taken: (error?: LantrainError) => void;
}

/**
 * A browser's open WebSocket. The browser masks messages and answers pings. It has no size limit and cannot stop
 * reading, so only what a coordinator sends bounds what arrives: a step's weights.
 */
export class BrowserWire implements Wire {
  readonly isPaused = false;
  readonly #pending: PendingSend[] = [];
  #sentBytes = 0;
  #draining = false;

  constructor(
    private readonly ws: WebSocket,
    readonly peer: string,
    private readonly messageBytes: number,
  ) {}

  get bufferedAmount(): number {
    return this.ws.bufferedAmount;
  }

  listen(events: WireEvents): void {
    this.ws.onmessage = ({ data }) => {
      if (!(data instanceof ArrayBuffer)) return events.message(undefined);
      events.heard(data.byteLength);
      if (data.byteLength > this.messageBytes) events.broke(malformed(`${data.byteLength} bytes in one message`));
      else events.message(new Uint8Array(data));
    };
    // An error event says nothing, and a close event follows it.
    this.ws.onclose = ({ code, reason }) => {
      const gone = new LantrainError('LT_CLUSTER_CLOSED', 'the connection ended');
      for (const { taken } of this.#pending.splice(0)) taken(gone);
      events.closed(code, reason);
    };
  }

  send(bytes: Uint8Array, taken?: (error?: LantrainError) => void): void {
    this.ws.send(bytes as Uint8Array<ArrayBuffer>);
    this.#sentBytes += bytes.length;
    if (taken === undefined) return;
    this.#pending.push({ upTo: this.#sentBytes, taken });
    if (!this.#draining) this.#drain();
  }

  /** Settles sends whose bytes the browser has sent. */
  #drain(): void {
    const gone = this.#sentBytes - this.ws.bufferedAmount;
    while (this.#pending.length > 0 && this.#pending[0].upTo <= gone) this.#pending.shift()?.taken();
    this.#draining = this.#pending.length > 0;
    if (this.#draining) setTimeout(() => this.#drain(), DRAIN_MS);
  }

  /** Pings between a browser and a coordinator are messages. */
  ping(): void {}

  pause(): void {}

  resume(): void {}

  close(code: number, reason: string): void {
    this.ws.close(code, reason);
  }

  terminate(): void {
    this.ws.close();
  }
}
