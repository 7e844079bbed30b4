import { once } from 'node:events';
import { connect as netConnect, type Socket } from 'node:net';
import { type RawData, WebSocket } from 'ws';
import { encodeFrame, type FrameHeader } from '../../cluster/protocol/frame.js';
import { onlyFromCoordinator, onlyFromWorker } from '../../cluster/protocol/protocol.js';
import { microBatchSet } from '../../cluster/round/sets.js';
import { type ConnectOptions, connect } from '../../cluster/transport/client.js';
import type { CoordinatorConnection, WorkerConnection } from '../../cluster/transport/connection.js';
import { workerHandshake } from '../../cluster/transport/handshake.js';
import type { Limits } from '../../cluster/transport/limits.js';
import { encodeMessage } from '../../cluster/transport/messages.js';
import { ClusterServer, type ServerOptions } from '../../cluster/transport/server.js';
import type { LantrainError } from '../../src/errors.js';
import { newToken } from '../../src/net/access.js';
import { parseJoinUrl } from '../../src/net/join-url.js';

export const VERSION = '0.0.1-test';
export const CONTEXT = { incarnation: 1, buckets: 4, microBatches: 16 } as const;

export interface TestServer {
  readonly server: ClusterServer;
  readonly url: string;
  readonly token: string;
  /** Admitted connections, in order. */
  readonly accepted: CoordinatorConnection[];
  /** Errors of refused connections, and of admitted ones that ended. */
  readonly refused: LantrainError[];
  readonly ended: LantrainError[];
}

/** A real server on loopback whose connections answer `join` and `ready` with `probe` and take every frame. */
export async function startServer(
  limits: Partial<Limits> = {},
  more: Partial<ServerOptions> = {},
): Promise<TestServer> {
  const token = newToken();
  const accepted: CoordinatorConnection[] = [];
  const refused: LantrainError[] = [];
  const ended: LantrainError[] = [];
  const server = await ClusterServer.listen({
    host: '127.0.0.1',
    port: 0,
    token,
    version: VERSION,
    limits,
    onRefused: (error) => refused.push(error),
    ...more,
    onConnection: (connection) => {
      accepted.push(connection);
      connection.frames = { ...CONTEXT, kinds: ['contribution'] };
      const answer = () => connection.send({ type: 'probe', probe: 'run', nonce: new Uint8Array(32) });
      connection.onControl = onlyFromWorker({ join: answer, ready: answer });
      connection.onClose = (error) => ended.push(error);
      more.onConnection?.(connection);
    },
  });
  return { server, url: server.joinUrl('127.0.0.1'), token, accepted, refused, ended };
}

/** Connects a worker. `isListening` false: `onControl` is not set yet. */
export async function join(
  url: string,
  more: Partial<ConnectOptions> = {},
  isListening = true,
): Promise<WorkerConnection> {
  const parsed = parseJoinUrl(url);
  const connection = await connect(parsed, { token: parsed.token ?? '', version: VERSION, ...more });
  if (isListening) connection.onControl = onlyFromCoordinator({});
  return connection;
}

const joined = new WeakSet<WorkerConnection>();

/** Whether control messages are answered. Joins the first time. */
export async function answers(connection: WorkerConnection): Promise<boolean> {
  const answer = new Promise<boolean>((resolve) => {
    connection.onControl = onlyFromCoordinator({ probe: () => resolve(true) });
    connection.onClose = () => resolve(false);
  });
  if (joined.has(connection)) connection.send({ type: 'ready' });
  else connection.send({ type: 'join', name: 'a', adapter: 'none' });
  joined.add(connection);
  return answer;
}

export function closing(connection: Pick<WorkerConnection, 'onClose'>): Promise<LantrainError> {
  return new Promise((resolve) => {
    connection.onClose = resolve;
  });
}

export function contribution(more: Partial<Extract<FrameHeader, { kind: 'contribution' }>> = {}): FrameHeader {
  const microBatches = microBatchSet([0, 3]);
  return { kind: 'contribution', incarnation: 1, assignment: 1, step: 1, bucket: 0, microBatches, ...more };
}

export function frameOf(payloadBytes: number): Uint8Array {
  return encodeFrame(contribution(), new Uint8Array(payloadBytes).fill(7));
}

/** A WebSocket that has proved no token, from `localAddress`. */
export async function rawWebSocket(
  server: ClusterServer,
  headers: Record<string, string> = {},
  localAddress?: string,
): Promise<WebSocket> {
  const ws = new WebSocket(`ws://127.0.0.1:${server.port}/`, {
    perMessageDeflate: false,
    headers,
    ...(localAddress === undefined ? {} : { localAddress }),
  });
  await once(ws, 'open');
  return ws;
}

/** A WebSocket that has proved the token; the test decides what it sends. */
export async function insider({ server, token }: TestServer, localAddress?: string): Promise<WebSocket> {
  const ws = await rawWebSocket(server, {}, localAddress);
  const arrived: Uint8Array[] = [];
  const waiting: ((message: Uint8Array) => void)[] = [];
  const onMessage = (data: RawData) => {
    const next = waiting.shift();
    if (next === undefined) arrived.push(data as Buffer);
    else next(data as Buffer);
  };
  ws.on('message', onMessage);
  const receive = async () => arrived.shift() ?? new Promise<Uint8Array>((resolve) => waiting.push(resolve));
  const channel = { send: (message: Uint8Array) => ws.send(message), receive };
  await workerHandshake(channel, { token, version: VERSION, fingerprint: '' });
  ws.off('message', onMessage);
  return ws;
}

export async function credit(ws: WebSocket, bytes: number): Promise<void> {
  ws.send(encodeMessage({ type: 'want', bytes }));
  await once(ws, 'message');
}

export async function closeReason(ws: WebSocket): Promise<string> {
  const [, reason] = (await once(ws, 'close')) as [number, Buffer];
  return reason.toString();
}

export async function rawSocket(server: ClusterServer, localAddress?: string): Promise<Socket> {
  const socket = netConnect({ port: server.port, host: '127.0.0.1', localAddress });
  socket.on('error', () => {});
  await once(socket, 'connect');
  return socket;
}

export async function until(condition: () => boolean, what: string, timeoutMs = 10_000): Promise<void> {
  const end = Date.now() + timeoutMs;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`not in time: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
