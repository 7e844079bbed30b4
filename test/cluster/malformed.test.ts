import { once } from 'node:events';
import { get } from 'node:http';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { encodeFrame, HEADER_BYTES, MAX_FRAME_BYTES } from '../../cluster/protocol/frame.js';
import { PROTOCOL_VERSION } from '../../cluster/protocol/protocol.js';
import { microBatchSet } from '../../cluster/round/sets.js';
import type { WorkerConnection } from '../../cluster/transport/connection.js';
import { workerHandshake } from '../../cluster/transport/handshake.js';
import type { Limits } from '../../cluster/transport/limits.js';
import { decodeWorkerMessage, encodeMessage } from '../../cluster/transport/messages.js';
import {
  answers,
  closeReason,
  contribution,
  credit,
  frameOf,
  insider as insiderOf,
  join,
  rawSocket,
  rawWebSocket,
  startServer,
  type TestServer,
  until,
  VERSION,
} from './transport-helpers.js';

const MIB = 2 ** 20;
/** Short, so that tests do not wait. A good worker sends bytes far more often. */
const LIMITS: Partial<Limits> = {
  handshakeMs: 400,
  connections: 6,
  pending: 4,
  receivePoolBytes: 32 * MIB,
  sendQueueBytes: MIB,
  maxQueueBytes: 8 * MIB,
  pingMs: 100,
  missedPings: 8,
};

let under: TestServer;
let good: WorkerConnection;

beforeEach(async () => {
  under = await startServer(LIMITS);
  good = await join(under.url, { limits: { pingMs: 100 } });
});

/** After each test the good worker still works, and nothing of the bad ones is left. */
afterEach(async () => {
  expect(await answers(good)).toBe(true);
  await good.sendFrame(frameOf(MIB));
  const { server } = under;
  await until(() => server.pendingCount === 0, 'no pending join is left');
  await until(() => server.connections.size === 1, 'only the good worker is left');
  await until(() => server.pool.freeBytes === server.pool.totalBytes, 'the receive pool is free');
  await server.close();
});

const insider = () => insiderOf(under);

test('random bytes instead of a handshake end that connection and no other', async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 300 }), async (bytes) => {
      const ws = await rawWebSocket(under.server);
      ws.send(bytes);
      expect(await closeReason(ws)).toMatch(/^LT_CLUSTER_MALFORMED/);
    }),
    { numRuns: 60 },
  );
});

test('random bytes instead of HTTP and of WebSocket frames end that connection and no other', async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 300 }), fc.boolean(), async (bytes, upgraded) => {
      const socket = await rawSocket(under.server);
      const closed = once(socket, 'close');
      if (upgraded) {
        const key = 'dGhlIHNhbXBsZSBub25jZQ==';
        const request = `GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13`;
        socket.write(`${request}\r\nSec-WebSocket-Key: ${key}\r\n\r\n`);
        await once(socket, 'data');
        socket.resume();
      }
      socket.end(bytes);
      socket.resume();
      await closed;
    }),
    { numRuns: 60 },
  );
});

test('random bytes from a worker that knows the token end its connection and no other', async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 400 }), async (bytes) => {
      const ws = await insider();
      ws.send(bytes);
      expect(await closeReason(ws)).toMatch(/^LT_CLUSTER_(MALFORMED|CREDIT)/);
    }),
    { numRuns: 60 },
  );
});

test('text, a message of the other side and one without a handler end the connection', async () => {
  for (const message of [
    'text',
    encodeMessage({ type: 'commit', step: 1 }),
    encodeMessage({ type: 'ready' }),
    encodeMessage({ type: 'proof', proof: new Uint8Array(32) }),
  ]) {
    const ws = await insider();
    ws.send(message);
    expect(await closeReason(ws)).toMatch(/^LT_CLUSTER_MALFORMED/);
  }
});

test('impossible frames end the connection; their credit comes back', async () => {
  const cut = frameOf(4096).subarray(0, 2000);
  const longer = Buffer.concat([frameOf(4096), Buffer.alloc(4)]);
  const weights = {
    kind: 'weights-whole' as const,
    incarnation: 1,
    assignment: 0,
    step: 1,
    base: 0,
    bucket: 0,
    exponent: 0,
  };
  for (const message of [
    cut,
    longer,
    frameOf(4096).subarray(0, HEADER_BYTES - 1),
    encodeFrame(contribution({ bucket: 4 }), new Uint8Array(4)),
    encodeFrame(contribution({ incarnation: 2 }), new Uint8Array(4)),
    encodeFrame(contribution({ microBatches: microBatchSet([16]) }), new Uint8Array(4)),
    encodeFrame({ ...weights, weights: { a: 0, b: 0 } }, new Uint8Array(4)),
  ]) {
    const ws = await insider();
    await credit(ws, message.length);
    ws.send(message);
    expect(await closeReason(ws)).toMatch(/^LT_CLUSTER_MALFORMED/);
  }
});

test('a frame without credit, one larger than its credit and a want beyond the pool end the connection', async () => {
  const frame = frameOf(4096);
  for (const start of [0, frame.length - 1]) {
    const ws = await insider();
    if (start > 0) await credit(ws, start);
    ws.send(frame);
    expect(await closeReason(ws)).toMatch(/^LT_CLUSTER_CREDIT/);
  }
  const ws = await insider();
  ws.send(encodeMessage({ type: 'want', bytes: 33 * MIB }));
  expect(await closeReason(ws)).toMatch(/^LT_CLUSTER_CREDIT/);
});

test('a message larger than any frame ends the connection before it is taken in', async () => {
  const ws = await insider();
  ws.on('error', () => {});
  const before = process.memoryUsage().arrayBuffers;
  ws.send(Buffer.alloc(MAX_FRAME_BYTES + 1));
  await once(ws, 'close');
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(4 * MAX_FRAME_BYTES);
});

test('before the token is proved, more than a handshake ends the connection', async () => {
  for (const bytes of [Buffer.alloc(5000, 0x4c), Buffer.alloc(4 * MIB)]) {
    const ws = await rawWebSocket(under.server);
    ws.on('error', () => {});
    ws.send(bytes);
    await once(ws, 'close');
  }
  const ws = await rawWebSocket(under.server);
  ws.on('error', () => {});
  const closed = once(ws, 'close');
  // Small fragments that never end a message.
  const timer = setInterval(() => ws.readyState === WebSocket.OPEN && ws.send(Buffer.alloc(500), { fin: false }), 5);
  await closed;
  clearInterval(timer);
  await until(() => under.refused.length === 3, 'all are refused');
  for (const { message } of under.refused) expect(message).toContain('more than a handshake');
});

test('a handshake played again from a recording is refused', async () => {
  const sent: Uint8Array[] = [];
  const first = await rawWebSocket(under.server);
  const channel = {
    send: (message: Uint8Array) => {
      sent.push(message);
      first.send(message);
    },
    receive: async () => (await once(first, 'message'))[0] as Buffer,
  };
  await workerHandshake(channel, { token: under.token, version: VERSION, fingerprint: '' });
  expect(sent.map((message) => decodeWorkerMessage(message).type)).toEqual(['hello', 'proof']);
  first.close();
  const second = await rawWebSocket(under.server);
  const closed = closeReason(second);
  second.send(sent[0]);
  await once(second, 'message');
  second.send(sent[1]);
  expect(await closed).toMatch(/^LT_CLUSTER_TOKEN/);
});

test('an unknown version is refused with both versions named', async () => {
  const ws = await rawWebSocket(under.server);
  const hello = { type: 'hello', protocol: 99, version: '9.8.7', something: 'new' };
  ws.send(encodeMessage(hello as never));
  const reason = await closeReason(ws);
  expect(reason).toMatch(/^LT_CLUSTER_VERSION/);
  for (const version of ['99', '9.8.7', ` ${PROTOCOL_VERSION} `, VERSION]) expect(reason).toContain(version);
});

test('who connects and says nothing is sent away, before and after the upgrade', async () => {
  const ws = await rawWebSocket(under.server);
  expect(await closeReason(ws)).toMatch(/^LT_CLUSTER_TIMEOUT/);
  expect(under.refused.map((error) => error.code)).toContain('LT_CLUSTER_TIMEOUT');
  const half = await rawWebSocket(under.server);
  const closed = closeReason(half);
  half.send(encodeMessage({ type: 'hello', protocol: PROTOCOL_VERSION, version: '', nonce: new Uint8Array(32) }));
  expect(await closed).toMatch(/^LT_CLUSTER_TIMEOUT/);
});

test('pending joins are limited; the good worker and later ones are not held up', async () => {
  const silent = await Promise.all([1, 2, 3, 4].map(() => rawWebSocket(under.server)));
  await expect(join(under.url)).rejects.toMatchObject({ code: 'LT_CLUSTER_LIMIT' });
  expect(await answers(good)).toBe(true);
  await Promise.all(silent.map((ws) => once(ws, 'close')));
  const later = await join(under.url);
  expect(await answers(later)).toBe(true);
  later.close();
});

test('connections are limited', async () => {
  const others: WebSocket[] = [];
  while (others.length < 5) others.push(await insider());
  await expect(join(under.url)).rejects.toMatchObject({ code: 'LT_CLUSTER_LIMIT' });
  for (const ws of others) ws.close();
});

test('many silent TCP connections leave room for a worker', async () => {
  const sockets = await Promise.all(Array.from({ length: 40 }, () => rawSocket(under.server)));
  const later = await join(under.url);
  expect(await answers(later)).toBe(true);
  later.close();
  for (const socket of sockets) socket.destroy();
});

test('who never reads is closed, and what waits for it stays bounded', async () => {
  const ws = await insider();
  ws.pause();
  const owner = under.accepted[1];
  const outcomes = Promise.allSettled(Array.from({ length: 50 }, () => owner.sendFrame(frameOf(MIB))));
  let most = 0;
  const timer = setInterval(() => {
    most = Math.max(most, owner.stats.bufferedAmount);
    // It sends all the while, so it is not closed for silence.
    ws.ping();
  }, 20);
  const results = await outcomes;
  clearInterval(timer);
  expect(under.ended.map((error) => error.code)).toEqual(['LT_CLUSTER_SLOW']);
  expect(results.at(-1)).toMatchObject({ status: 'rejected' });
  expect(most).toBeGreaterThan(0);
  expect(most).toBeLessThan(3 * MIB);
  ws.terminate();
});

test('who never reads control messages is closed when its queue is full', async () => {
  const ws = await insider();
  ws.pause();
  const owner = under.accepted[1];
  // About 1000 bytes.
  const microBatches = Array.from({ length: 330 }, (_, i) => 256 + i);
  const message = { type: 'hand-back' as const, assignment: 1, microBatches };
  let most = 0;
  for (let i = 0; i < 30_000 && owner.isOpen; i++) {
    owner.send(message);
    most = Math.max(most, owner.stats.bufferedAmount);
    if (i % 1000 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  expect(under.ended.map((error) => error.code)).toEqual(['LT_CLUSTER_SLOW']);
  expect(most).toBeLessThan(8 * MIB + 10_000);
  ws.terminate();
});

test('a peer that vanished without a word is noticed by its missing pongs', async () => {
  const ws = await insider();
  // The system keeps its TCP open, as it would for a stopped process.
  ws.pause();
  await until(() => under.ended.length === 1, 'its end');
  expect(under.ended[0].code).toBe('LT_CLUSTER_TIMEOUT');
  ws.terminate();
});

test('a page of another origin is refused, one of this server is not', async () => {
  const own = `127.0.0.1:${under.server.port}`;
  for (const origin of ['http://evil.example', `https://${own}`, 'null', `http://${own}.evil.example`])
    await expect(rawWebSocket(under.server, { origin })).rejects.toThrow('403');
  const ws = await rawWebSocket(under.server, { origin: `http://${own}` });
  ws.close();
});

test('plain HTTP is told what this is, and gets nothing else', async () => {
  const { port } = under.server;
  const status = await new Promise((resolve) => {
    get({ host: '127.0.0.1', port, path: '/' }, (response) => {
      response.resume();
      resolve(response.statusCode);
    });
  });
  expect(status).toBe(426);
  const ws = new WebSocket(`ws://127.0.0.1:${port}/elsewhere`);
  const [error] = await once(ws, 'error');
  expect(String(error)).toContain('404');
});
