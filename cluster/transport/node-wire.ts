import type { Socket } from 'node:net';
import type { WebSocket } from 'ws';
import { LantrainError } from '../../src/errors.js';
import { reason } from '../../src/files/files.js';
import { FrameMeter } from '../../src/net/frame-meter.js';
import { peerOf } from '../../src/net/upgrade.js';
import { malformed } from '../protocol/malformed.js';
import type { Wire, WireEvents } from './wire.js';

/** An open WebSocket of the package `ws`, on `socket`. */
export class NodeWire implements Wire {
  readonly peer: string;

  constructor(
    private readonly ws: WebSocket,
    private readonly socket: Socket,
  ) {
    this.peer = peerOf(socket);
  }

  get bufferedAmount(): number {
    return this.ws.bufferedAmount;
  }

  get isPaused(): boolean {
    return this.ws.isPaused;
  }

  listen(events: WireEvents): void {
    const { ws, socket } = this;
    const meter = new FrameMeter();
    // Runs after the listener of `ws`, which was added first.
    socket.on('data', (chunk: Buffer) => {
      meter.read(chunk);
      events.heard(chunk.length, meter);
    });
    ws.binaryType = 'nodebuffer';
    ws.on('message', (data, isBinary) => events.message(isBinary ? (data as Buffer) : undefined));
    ws.on('pong', (data) => {
      if (data.length === 8) events.pong(data.readDoubleLE());
    });
    ws.on('error', (error) => events.broke(socketError(error)));
    ws.on('close', (code, reason) => events.closed(code, reason.toString()));
  }

  send(bytes: Uint8Array, taken?: (error?: LantrainError) => void): void {
    const done = taken && ((error?: Error | null) => taken(error ? socketError(error) : undefined));
    this.ws.send(bytes, { binary: true, compress: false, fin: true }, done);
  }

  ping(now: number): void {
    const data = Buffer.alloc(8);
    data.writeDoubleLE(now);
    this.ws.ping(data);
  }

  pause(): void {
    this.ws.pause();
  }

  resume(): void {
    this.ws.resume();
  }

  close(code: number, reason: string): void {
    this.ws.close(code, reason);
  }

  terminate(): void {
    this.ws.terminate();
  }
}

function socketError(error: Error & { code?: string }): LantrainError {
  if (error.code?.startsWith('WS_ERR_')) return malformed(error.message, error);
  return new LantrainError('LT_CLUSTER_CLOSED', `the connection broke: ${reason(error)}`, { cause: error });
}
