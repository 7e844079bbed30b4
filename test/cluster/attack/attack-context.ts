/** What an attack needs: its address, its sockets, and the engine that admission may need. */
import { once } from 'node:events';
import { connect as netConnect, type Socket } from 'node:net';
import { connect as tlsConnect } from 'node:tls';
import { WebSocket } from 'ws';
import { connectWorker } from '../../../cluster/transport/connect-worker.js';
import type { WorkerConnection } from '../../../cluster/transport/connection.js';
import { DEFAULT_LIMITS } from '../../../cluster/transport/limits.js';
import { NodeWire } from '../../../cluster/transport/node-wire.js';
import type { EngineCache } from '../../../cluster/worker/engine-cache.js';
import { fingerprintOf } from '../../../src/net/access.js';
import type { JoinUrl } from '../../../src/net/join-url.js';
import type { Draw } from '../seeded.js';

/** Reports of an attacker to the process that measures. */
export type Told =
  | { readonly told: 'begun' }
  /** How a connection ended: an error code of lantrain, an HTTP status or a system's code. */
  | { readonly told: 'closed'; readonly code: string }
  /** A contribution with wrong gradients was sent, the first bucket of the assignment. */
  | { readonly told: 'lied'; readonly assignment: number; readonly step: number }
  | { readonly told: 'answer'; readonly text: string };

export interface AttackContext {
  readonly target: JoinUrl & { readonly token: string };
  /** Another coordinator of the same model, from which the attacker can learn. */
  readonly teacher?: JoinUrl & { readonly token: string };
  /** The loopback address of the attacker's sockets. */
  readonly from: string;
  /** The attacker's worker name. */
  readonly name: string;
  readonly draw: Draw;
  readonly signal: AbortSignal;
  readonly tell: (told: Told) => void;
  /** One engine per process: only one worker may compute with it at a time. */
  readonly engines: () => Promise<EngineCache>;
}

/** Never pings: an attacker does not check whether the other side is alive. */
const LIMITS = { ...DEFAULT_LIMITS, pingMs: 2 ** 30 };
const CONNECT_MS = 5_000;

export const pause = (ms: number) => new Promise<void>((go) => setTimeout(go, ms));

/** A connected socket, with TLS if the coordinator uses it. Destroyed when the attack is over. */
export async function openSocket({ target, from, signal }: AttackContext): Promise<Socket> {
  signal.throwIfAborted();
  const place = { host: target.host, port: target.port, localAddress: from };
  const socket: Socket = target.secure
    ? tlsConnect({ ...place, rejectUnauthorized: false, minVersion: 'TLSv1.3' })
    : netConnect(place);
  const destroy = () => void socket.destroy();
  signal.addEventListener('abort', destroy);
  socket.on('close', () => signal.removeEventListener('abort', destroy));
  socket.setTimeout(CONNECT_MS, destroy);
  const connected = once(socket, target.secure ? 'secureConnect' : 'connect');
  await Promise.race([connected, once(socket, 'close').then(() => Promise.reject(new Error('it hung up')))]);
  socket.setTimeout(0);
  socket.on('error', () => {});
  return socket;
}

export interface OpenWebSocket {
  readonly ws: WebSocket;
  readonly socket: Socket;
}

/** An open WebSocket that has not sent anything yet. Throws the HTTP status of a refusal. */
export async function openWebSocket(
  context: AttackContext,
  { path = '/', headers = {} }: { readonly path?: string; readonly headers?: Readonly<Record<string, string>> } = {},
): Promise<OpenWebSocket> {
  const socket = await openSocket(context);
  const ws = new WebSocket(`ws://${context.target.host}:${context.target.port}${path}`, {
    createConnection: () => socket,
    perMessageDeflate: false,
    headers,
  });
  await new Promise<void>((open, refused) => {
    ws.once('open', open);
    ws.once('error', refused);
    ws.once('unexpected-response', (_, { statusCode, headers: said }) => {
      socket.destroy();
      refused(new Error(`${statusCode} ${said['x-lantrain'] ?? ''}`.trim()));
    });
  });
  ws.on('error', () => {});
  return { ws, socket };
}

export interface Authenticated extends OpenWebSocket {
  readonly connection: WorkerConnection;
}

/** A connection that has proved the token. Its messages wait until `onControl` is set. */
export async function connectAs(context: AttackContext, token = context.target.token): Promise<Authenticated> {
  const { ws, socket } = await openWebSocket(context);
  const fingerprint =
    'getPeerCertificate' in socket ? fingerprintOf((socket as TlsSocket).getPeerCertificate().raw) : '';
  const connection = await connectWorker(new NodeWire(ws, socket), { token, version: 'attack', fingerprint }, LIMITS);
  return { ws, socket, connection };
}

interface TlsSocket extends Socket {
  getPeerCertificate(): { readonly raw: Buffer };
}

/** Resolves when the attack is over. */
export function over({ signal }: AttackContext): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((end) => signal.addEventListener('abort', () => end(), { once: true }));
}

/** Writes again and again, as fast as the system takes it, until the socket or the attack is over. */
export async function flood({ signal }: AttackContext, socket: Socket, write: () => unknown): Promise<void> {
  while (!signal.aborted && !socket.destroyed && socket.writable) {
    for (let i = 0; i < 64 && socket.writableLength < 2 ** 20; i++) write();
    await new Promise((go) => setTimeout(go, socket.writableLength < 2 ** 20 ? 0 : 5));
  }
}
