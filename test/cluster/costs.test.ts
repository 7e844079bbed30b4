import { once } from 'node:events';
import type { Socket } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { WebSocket } from 'ws';
import { MAX_FRAME_BYTES } from '../../cluster/protocol/frame.js';
import { onlyFromWorker } from '../../cluster/protocol/protocol.js';
import type { WorkerConnection } from '../../cluster/transport/connection.js';
import type { Limits } from '../../cluster/transport/limits.js';
import { encodeMessage, type FromWorker } from '../../cluster/transport/messages.js';
import { MAX_WANTS } from '../../cluster/transport/receive-pool.js';
import {
  answers,
  closeReason,
  credit,
  frameOf,
  insider,
  join,
  startServer,
  type TestServer,
  until,
} from './transport-helpers.js';

/** Address of malicious members; the honest worker is at 127.0.0.1. */
const EVIL = process.platform === 'linux' ? '127.0.0.2' : '127.0.0.1';
const MIB = 2 ** 20;
const KIB = 2 ** 10;

let under: TestServer;
let good: WorkerConnection;
let evil: WebSocket[] = [];

async function begin(limits: Partial<Limits> = {}): Promise<void> {
  under = await startServer({ pingMs: 50, missedPings: 200, ...limits });
  good = await join(under.url);
}

async function joinEvil(): Promise<WebSocket> {
  const ws = await insider(under, EVIL);
  ws.on('error', () => {});
  evil.push(ws);
  say(ws, { type: 'join', name: 'evil', adapter: 'none' });
  await once(ws, 'message');
  return ws;
}

function say(ws: WebSocket, message: FromWorker): void {
  ws.send(encodeMessage(message));
}

beforeEach(() => {
  evil = [];
});

/** After each attack the honest worker works, and nothing of the attackers is left. */
afterEach(async () => {
  expect(await answers(good)).toBe(true);
  await good.sendFrame(frameOf(MIB));
  for (const ws of evil) ws.terminate();
  const { server } = under;
  await until(() => server.connections.size === 1, 'only the good worker is left');
  await until(() => server.pool.freeBytes === server.pool.totalBytes, 'the receive pool is free');
  await server.close();
});

test('whoever asks for all the credit there is, over many connections, leaves enough for an honest worker', async () => {
  await begin({ receivePoolBytes: 32 * MIB });
  for (let i = 0; i < 4; i++) {
    const ws = await joinEvil();
    for (let k = 0; k < MAX_WANTS; k++) say(ws, { type: 'want', bytes: 4 * MIB });
  }
  await until(() => under.server.pool.freeBytes <= 16 * MIB, 'their credit');
  let bytes = 0;
  under.accepted[0].onFrame = (frame) => {
    bytes += frame.bytes;
  };
  await Promise.all(Array.from({ length: 30 }, () => good.sendFrame(frameOf(2 * MIB))));
  await until(() => bytes > 60 * MIB, 'all frames');
  // No connection had to be closed for that.
  expect(under.ended).toEqual([]);
});

test('credit that others wait for does not grow young by a small frame now and then', async () => {
  await begin({ receivePoolBytes: 4 * MIB, creditMs: 500 });
  const hoarder = await joinEvil();
  await credit(hoarder, 4 * MIB - 4 * KIB);
  const ended = closeReason(hoarder);
  const stale = frameOf(4);
  const timer = setInterval(() => hoarder.readyState === hoarder.OPEN && hoarder.send(stale), 100);
  // It waits for the hoarder's credit.
  await good.sendFrame(frameOf(MIB));
  clearInterval(timer);
  expect(await ended).toMatch(/^LT_CLUSTER_SILENT/);
});

test('credit that is used slowly, in the middle of a frame, is taken back while others wait', async () => {
  await begin({ receivePoolBytes: 4 * MIB, creditMs: 500, bytesPerSecond: 64 * KIB });
  const ws = await joinEvil();
  const bytes = 4 * MIB - 4 * KIB;
  await credit(ws, bytes);
  const socket = socketOf(ws);
  socket.write(headerOf(bytes));
  const timer = setInterval(() => socket.writable && socket.write(Buffer.alloc(KIB, 0x4c)), 100);
  const ended = closeReason(ws);
  await good.sendFrame(frameOf(MIB));
  clearInterval(timer);
  expect(await ended).toMatch(/^LT_CLUSTER_SILENT/);
});

test('credit that is used fast enough is left to its owner while others wait', async () => {
  await begin({ receivePoolBytes: 4 * MIB, creditMs: 500, bytesPerSecond: 64 * KIB });
  const ws = await joinEvil();
  const bytes = 4 * MIB - 4 * KIB;
  await credit(ws, bytes);
  const socket = socketOf(ws);
  const waiting = good.sendFrame(frameOf(MIB));
  const ended = closeReason(ws);
  socket.write(headerOf(bytes));
  let sent = 0;
  while (sent < bytes) {
    expect(under.ended, `after ${sent} bytes`).toEqual([]);
    const part = Math.min(128 * KIB, bytes - sent);
    socket.write(Buffer.alloc(part, 0x4c));
    sent += part;
    await new Promise((go) => setTimeout(go, 60));
  }
  // It did not send a real frame, which shows once the message is complete.
  expect(await ended).toMatch(/^LT_CLUSTER_MALFORMED/);
  await waiting;
});

/** The socket below a WebSocket of `ws`, to send bytes that `ws` would not. */
function socketOf(ws: WebSocket): Socket {
  return (ws as unknown as { readonly _socket: Socket })._socket;
}

/** The header of a binary message in one WebSocket frame, with a mask of zeros. */
function headerOf(bytes: number): Buffer {
  const header = Buffer.alloc(14);
  header[0] = 0x82;
  header[1] = 0xff;
  header.writeBigUInt64BE(BigInt(bytes), 2);
  return header;
}

test('a large message is refused by its header unless there is credit for all of it', async () => {
  await begin();
  for (const granted of [0, 4 * MIB - 1]) {
    const ws = await joinEvil();
    if (granted > 0) await credit(ws, granted);
    const ended = under.ended.length;
    const socket = socketOf(ws);
    // A hundredth of the announced bytes.
    socket.write(headerOf(4 * MIB));
    socket.write(Buffer.alloc(40 * KIB, 0x4c));
    await until(() => under.ended.length > ended, 'its end');
    expect(under.ended.at(-1)?.code).toBe('LT_CLUSTER_CREDIT');
  }
  const fragments = await joinEvil();
  // No fragment is large.
  while (fragments.readyState === fragments.OPEN) {
    fragments.send(Buffer.alloc(20 * KIB, 0x4c), { fin: false });
    await new Promise((go) => setTimeout(go, 5));
  }
  expect(under.ended.at(-1)?.code).toBe('LT_CLUSTER_CREDIT');
});

test('a control message has a bound of its own, far below that of frames', async () => {
  await begin();
  const ws = await joinEvil();
  await credit(ws, MAX_FRAME_BYTES);
  const message = encodeMessage({ type: 'leave', reason: 'x'.repeat(100_000) });
  const ended = closeReason(ws);
  ws.send(message);
  expect(await ended).toMatch(/^LT_CLUSTER_MALFORMED: .* no frame/);
});

test('a message that trickles in, or is fragmented without end, ends after a time', async () => {
  await begin({ messageMs: 500, bytesPerSecond: 10 * KIB });
  const [trickle, fragments, honest] = [await joinEvil(), await joinEvil(), await joinEvil()];
  const socket = socketOf(trickle);
  socket.write(headerOf(1000));
  const timer = setInterval(() => {
    if (socket.writable) socket.write(Buffer.alloc(1));
    if (fragments.readyState === fragments.OPEN) fragments.send(Buffer.alloc(1), { fin: false });
    if (honest.readyState === honest.OPEN) say(honest, { type: 'ready' });
  }, 20);
  await until(() => under.ended.length === 2, 'their ends');
  clearInterval(timer);
  expect(under.ended.map(({ code }) => code)).toEqual(['LT_CLUSTER_SLOW', 'LT_CLUSTER_SLOW']);
  expect(honest.readyState).toBe(honest.OPEN);
});

test('answers that nobody reads are bounded in number, whoever asks for them', async () => {
  await begin({ maxQueueMessages: 500, budget: { msPerSecond: 1e6, burstMs: 1e6 } });
  const ws = await joinEvil();
  ws.pause();
  const ping = encodeMessage({ type: 'ping', at: 1 });
  let most = 0;
  const owner = under.accepted[1];
  for (let i = 0; i < 2_000_000 && owner.isOpen; i++) {
    ws.send(ping);
    if (i % 1000 > 0) continue;
    await new Promise((go) => setImmediate(go));
    most = Math.max(most, owner.stats.bufferedAmount);
  }
  expect(under.ended.map(({ code }) => code)).toEqual(['LT_CLUSTER_SLOW']);
  expect(most).toBeLessThan(64 * KIB);
});

test('what a member says is handled within its budget, and everybody else goes on', async () => {
  const busyMs = 10;
  let handled = 0;
  await begin({ budget: { msPerSecond: 50, burstMs: 100 } });
  const ws = await joinEvil();
  under.accepted[1].onControl = onlyFromWorker({
    ready: () => {
      handled++;
      for (const end = performance.now() + busyMs; performance.now() < end; );
    },
  });
  const began = performance.now();
  for (let i = 0; i < 1000; i++) say(ws, { type: 'ready' });
  for (let i = 0; i < 20; i++) {
    expect(await answers(good)).toBe(true);
    await new Promise((go) => setTimeout(go, 50));
  }
  const elapsedMs = performance.now() - began;
  expect(handled).toBeGreaterThanOrEqual(3);
  expect(handled).toBeLessThanOrEqual(2 + (100 + 0.05 * elapsedMs) / busyMs);
});

test('frames of the WebSocket protocol that are no messages are charged as well', async () => {
  await begin({ budget: { msPerSecond: 10, burstMs: 20 } });
  const ws = await joinEvil();
  const owner = under.accepted[1];
  const socket = socketOf(ws);
  const pongs = Buffer.concat(Array.from({ length: 9000 }, () => Buffer.from([0x8a, 0x80, 0, 0, 0, 0])));
  for (let i = 1; i <= 400 && owner.isOpen; i++) {
    socket.write(pongs);
    if (i % 40 === 0) expect(await answers(good)).toBe(true);
  }
  // They wait: the socket is not read, or was closed because it exceeded its budget.
  expect(!owner.isOpen || socket.writableLength > MIB).toBe(true);
});

test('a member that joins twice, or asks for the same twice, is closed', async () => {
  await begin();
  const join = await joinEvil();
  const ended = [closeReason(join)];
  say(join, { type: 'join', name: 'evil', adapter: 'none' });
  const list = await joinEvil();
  ended.push(closeReason(list));
  say(list, { type: 'mismatch', buckets: Array.from({ length: 60_000 }, () => 1) });
  const [twice, same] = await Promise.all(ended);
  expect(twice).toMatch(/^LT_CLUSTER_LIMIT/);
  expect(same).toMatch(/^LT_CLUSTER_MALFORMED/);
});

test('who is told to go and goes on sending is cut off', async () => {
  await begin();
  const ws = await joinEvil();
  const socket = socketOf(ws);
  // It ignores the close, and never ends the message.
  ws.removeAllListeners();
  socket.removeAllListeners('data');
  socket.on('error', () => {});
  under.accepted[1].close();
  const cut = new Promise((close) => socket.once('close', close));
  socket.write(headerOf(4 * MIB));
  let sent = 0;
  const timer = setInterval(() => {
    if (!socket.writable) return;
    socket.write(Buffer.alloc(64 * KIB));
    sent += 64 * KIB;
  }, 5);
  await cut;
  clearInterval(timer);
  expect(sent).toBeLessThan(2 * MIB);
});
