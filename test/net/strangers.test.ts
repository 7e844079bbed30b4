import { once } from 'node:events';
import { get } from 'node:http';
import type { Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import type { WebSocket } from 'ws';
import { refusal } from '../../cluster/transport/trouble.js';
import { parseJoinUrl } from '../../src/net/join-url.js';
import {
  answers,
  insider,
  join,
  rawSocket,
  rawWebSocket,
  startServer,
  type TestServer,
  until,
} from '../cluster/transport-helpers.js';
import { IS_THOROUGH } from '../thorough.js';
import { newAccess } from '../watch/helpers.js';

/** On Linux, every address of 127/8 is this machine's. */
const EVIL = '127.0.0.2';
const isLinux = process.platform === 'linux';
/** An honest worker joins well within 2 s, and a busy machine gets more. An attacker's time-outs are longer. */
const JOIN_MS = 8_000;
const PATIENT = { handshakeMs: 20_000 };
const SLOW = { requestMs: 20_000, answerMs: 20_000 };

const open: TestServer[] = [];
const sockets: Socket[] = [];
const webSockets: WebSocket[] = [];

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const ws of webSockets.splice(0)) ws.terminate();
  for (const { server } of open.splice(0)) await server.close();
});

async function start(...args: Parameters<typeof startServer>): Promise<TestServer> {
  const under = await startServer(...args);
  open.push(under);
  return under;
}

async function evilSocket({ server }: TestServer, localAddress = EVIL): Promise<Socket> {
  const socket = await rawSocket(server, localAddress);
  sockets.push(socket);
  return socket;
}

/** Workers join one by one, each in time. */
async function joinsWell(under: TestServer, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const began = performance.now();
    const worker = await join(under.url);
    expect(await answers(worker)).toBe(true);
    expect(performance.now() - began).toBeLessThan(JOIN_MS);
  }
}

const sleep = (ms: number) => new Promise((go) => setTimeout(go, ms));

async function closed(socket: Socket): Promise<void> {
  socket.resume();
  if (!socket.closed) await new Promise((close) => socket.once('close', close));
}

test.runIf(isLinux)('silent sockets of one address take no place from joins of another', async () => {
  const under = await start(PATIENT, { strangers: { ...SLOW, sockets: 96 } });
  for (let i = 0; i < 150; i++) await evilSocket(under);
  await joinsWell(under, 8);
});

test('thirty browsers behind one address open the page at once, by six sockets each', async () => {
  const under = await start({}, { onRequest: (_, response) => void response.end('page') });
  const answers = Array.from({ length: 180 }, async () => {
    const socket = await rawSocket(under.server);
    sockets.push(socket);
    socket.write(GET('/', '127.0.0.1'));
    const [data] = await Promise.race([once(socket, 'data'), closed(socket).then(() => ['cut off'])]);
    return /^HTTP\/1\.1 200 /.test(String(data));
  });
  expect((await Promise.all(answers)).filter((isAnswered) => !isAnswered)).toEqual([]);
});

test.runIf(isLinux)('silent WebSockets of one address take no place from joins of another', async () => {
  const under = await start(PATIENT, { strangers: SLOW });
  for (let i = 0; i < 40; i++) {
    const ws = await rawWebSocket(under.server, {}, EVIL).catch(() => undefined);
    ws?.on('error', () => {});
    if (ws !== undefined) webSockets.push(ws);
  }
  expect(under.server.pendingCount).toBe(32);
  await joinsWell(under, 8);
  // Each connection that was closed to make room was told so once.
  await until(() => under.refused.length >= 8, 'their ends');
  for (const error of under.refused) expect(error.code).toBe('LT_CLUSTER_LIMIT');
  await until(() => under.server.pendingCount <= 32, 'their places');
});

test.runIf(isLinux && IS_THOROUGH)(
  'sockets that send a byte now and then, over TLS too, take no place and gain no time',
  async () => {
    const tls = await newAccess();
    for (const more of [{}, { tls }]) {
      const under = await start({ handshakeMs: 3_000 }, { strangers: { requestMs: 3_000 }, ...more });
      const began = performance.now();
      const slow = await Promise.all(Array.from({ length: 100 }, () => evilSocket(under)));
      const request = Buffer.from(`GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: ${'x'.repeat(500)}`);
      let at = 0;
      const timer = setInterval(() => {
        for (const socket of slow) if (socket.writable) socket.write(request.subarray(at, at + 1));
        at++;
      }, 100);
      try {
        await joinsWell(under, 4);
        await Promise.all(slow.map(closed));
        // A worker that has joined is never a stranger again.
        await sleep(3_100);
        expect(under.ended).toEqual([]);
        expect(under.accepted).toHaveLength(4);
      } finally {
        clearInterval(timer);
      }
      // If each byte extended the time, this would take 55 s.
      expect(performance.now() - began).toBeLessThan(20_000);
    }
  },
);

test.runIf(isLinux)('a storm of sockets of one address is cut off before it costs a handshake each', async () => {
  const under = await start({}, { strangers: { socketsPerSecond: 1, socketsAtOnce: 10 } });
  const storm = await Promise.all(Array.from({ length: 40 }, () => evilSocket(under).catch(() => undefined)));
  const request = 'GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n';
  let answered = 0;
  await Promise.all(
    storm.map(async (socket) => {
      if (socket === undefined || socket.destroyed) return;
      let heard = 0;
      socket.on('data', (data) => {
        heard += data.length;
      });
      socket.write(request);
      await closed(socket);
      if (heard > 0) answered++;
    }),
  );
  expect(answered).toBeGreaterThanOrEqual(10);
  expect(answered).toBeLessThan(20);
  await joinsWell(under, 3);
});

test.runIf(isLinux)('workers of one address who have most places make room for one of another', async () => {
  const under = await start({ connections: 6 });
  for (let i = 0; i < 6; i++) {
    const ws = await insider(under, EVIL);
    ws.on('error', () => {});
    webSockets.push(ws);
  }
  await joinsWell(under, 3);
  expect(under.ended.map(({ code }) => code)).toEqual(['LT_CLUSTER_LIMIT', 'LT_CLUSTER_LIMIT', 'LT_CLUSTER_LIMIT']);
  // No person can take more than half of all places.
  await expect(join(under.url)).rejects.toMatchObject({ code: 'LT_CLUSTER_LIMIT' });
});

async function exchange(under: TestServer, text: string): Promise<string> {
  const socket = await rawSocket(under.server);
  let heard = '';
  socket.on('data', (data) => {
    heard += data;
  });
  socket.write(text);
  await closed(socket);
  return heard;
}

const GET = (path: string, host: string, ...more: string[]) =>
  [`GET ${path} HTTP/1.1`, `Host: ${host}`, ...more, '', ''].join('\r\n');

test('requests come one by one: who sends another before the answer is cut off', async () => {
  let asked = 0;
  const under = await start(
    {},
    {
      onRequest: (_, response) => {
        asked++;
        response.end('x'.repeat(1000));
      },
    },
  );
  await exchange(under, GET('/', '127.0.0.1').repeat(500));
  expect(asked).toBe(1);
  // Requests one after another are answered, up to a limit.
  const socket = await rawSocket(under.server);
  const ended = closed(socket);
  for (let i = 0; i < 120 && !socket.destroyed; i++) {
    socket.write(GET('/', '127.0.0.1'));
    await Promise.race([once(socket, 'data'), ended]);
  }
  await ended;
  expect(asked).toBeGreaterThan(50);
  expect(asked).toBeLessThanOrEqual(102);
});

test('a body that nobody asked for ends the connection with the answer', async () => {
  const under = await start({}, { strangers: SLOW, onRequest: (_, response) => void response.end('done') });
  const head = 'POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n';
  expect(await exchange(under, `${head}4\r\nabcd\r\n`)).toMatch(/^HTTP\/1\.1 200 .*\r\nConnection: close\r\n.*done/is);
});

test('a host that is not this machine is told so, by request and by upgrade', async () => {
  const under = await start({}, { names: ['gpu.example'] });
  const { port } = under.server;
  const status = (host: string) =>
    new Promise<string>((resolve, reject) => {
      get({ host: '127.0.0.1', port, path: '/', headers: { Host: host } }, (response) => {
        let text = '';
        response.on('data', (data) => {
          text += data;
        });
        response.on('end', () => resolve(`${response.statusCode} ${text}`));
      }).on('error', reject);
    });
  expect(await status(`evil.example:${port}`)).toMatch(/^421 evil\.example is no name of this machine; [^\n]*\n$/);
  for (const host of [`localhost:${port}`, '127.0.0.1', `gpu.example:${port}`])
    expect(await status(host)).toMatch(/^426 /);
  for (const host of [`evil.example:${port}`, `127.0.0.1.evil.example:${port}`])
    await expect(rawWebSocket(under.server, { host, origin: `http://${host}` })).rejects.toThrow('421');
  expect(under.refused.map(({ code }) => code)).toEqual(['LT_CLUSTER_URL', 'LT_CLUSTER_URL']);
  expect(await exchange(under, 'GET / HTTP/1.0\r\n\r\n')).toMatch(/^HTTP\/1\.1 421 /);
  const ws = await rawWebSocket(under.server, { host: 'gpu.example', origin: 'http://gpu.example' });
  ws.terminate();
});

test('a worker that comes by a name that the machine does not know is told what to do', async () => {
  const under = await start({}, { names: [] });
  const url = under.url.replace('127.0.0.1', 'localhost');
  const worker = await join(url);
  expect(await answers(worker)).toBe(true);
  const { message } = refusal(parseJoinUrl(under.url.replace('127.0.0.1', 'gpu.example')), 'LT_CLUSTER_URL', 421);
  expect(message).toContain('LANTRAIN_NAMES=gpu.example');
});
