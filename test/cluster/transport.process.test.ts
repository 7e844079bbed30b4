import { fork } from 'node:child_process';
import { once } from 'node:events';
import { afterEach, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { encodeFrame, type Frame, payloadIntact } from '../../cluster/protocol/frame.js';
import { onlyFromCoordinator, onlyFromWorker } from '../../cluster/protocol/protocol.js';
import { connectWorker } from '../../cluster/transport/connect-worker.js';
import type { CoordinatorConnection } from '../../cluster/transport/connection.js';
import { DEFAULT_LIMITS } from '../../cluster/transport/limits.js';
import { NodeWire } from '../../cluster/transport/node-wire.js';
import { MAX_WANTS, ReceivePool } from '../../cluster/transport/receive-pool.js';
import { LantrainError } from '../../src/errors.js';
import { parseJoinUrl } from '../../src/net/join-url.js';
import {
  answers,
  CONTEXT,
  closing,
  contribution,
  frameOf,
  join,
  startServer,
  type TestServer,
  until,
  VERSION,
} from './transport-helpers.js';

const MIB = 2 ** 20;
const open: TestServer[] = [];

afterEach(async () => {
  for (const { server } of open.splice(0)) await server.close();
});

async function start(...args: Parameters<typeof startServer>): Promise<TestServer> {
  const test = await startServer(...args);
  open.push(test);
  return test;
}

const code = (name: string) => expect.objectContaining({ code: name });

test('control messages and frames go both ways, in order', async () => {
  const { url, accepted } = await start();
  const worker = await join(url);
  const [owner] = accepted;
  const up: number[] = [];
  const down: number[] = [];
  owner.onFrame = ({ header, payload }: Frame) => {
    up.push(header.bucket, payload.length);
  };
  worker.frames = { ...CONTEXT, kinds: ['weights-whole'] };
  worker.onFrame = (frame) => {
    expect(payloadIntact(frame)).toBe(true);
    down.push(frame.header.bucket);
  };
  expect(await answers(worker)).toBe(true);
  const sent = [0, 1, 2, 3].map((bucket) =>
    worker.sendFrame(encodeFrame(contribution({ bucket }), new Uint8Array((4 * bucket * MIB) / 4))),
  );
  const weights = { a: 1, b: 2 };
  for (const bucket of [3, 2, 1]) {
    const header = {
      kind: 'weights-whole' as const,
      incarnation: 1,
      assignment: 0,
      step: 2,
      base: 0,
      bucket,
      weights,
      exponent: 0,
    };
    await owner.sendFrame(encodeFrame(header, new Uint8Array(MIB)));
  }
  await Promise.all(sent);
  await until(() => up.length === 8 && down.length === 3, 'all frames');
  expect(up).toEqual([0, 0, 1, MIB, 2, 2 * MIB, 3, 3 * MIB]);
  expect(down).toEqual([3, 2, 1]);
  expect(owner.stats.bytesIn).toBeGreaterThan(6 * MIB);
  expect(worker.stats.bytesIn).toBeGreaterThan(3 * MIB);
});

test('messages that arrive before anybody listens are kept', async () => {
  const { url } = await start(
    {},
    { onConnection: (connection) => connection.send({ type: 'probe', probe: 'reference', nonce: new Uint8Array(32) }) },
  );
  const worker = await join(url, {}, false);
  await new Promise((resolve) => setTimeout(resolve, 50));
  const probe = await new Promise((resolve) => {
    worker.onControl = onlyFromCoordinator({ probe: resolve });
  });
  expect(probe).toMatchObject({ type: 'probe', probe: 'reference' });
});

test('an error that a side closes with arrives at the other with its code', async () => {
  const { url, accepted, ended } = await start();
  const worker = await join(url);
  const closed = closing(worker);
  accepted[0].close(new LantrainError('LT_CLUSTER_LIMIT', `too ${'much '.repeat(100)}`));
  expect(await closed).toEqual(code('LT_CLUSTER_LIMIT'));
  expect(ended).toEqual([code('LT_CLUSTER_LIMIT')]);
  await expect(worker.sendFrame(frameOf(4))).rejects.toEqual(code('LT_CLUSTER_LIMIT'));
});

test('a handler that throws an error with a code ends that connection only', async () => {
  const { url, accepted } = await start();
  const [bad, good] = [await join(url), await join(url)];
  const closed = closing(bad);
  accepted[0].onFrame = async () => {
    throw new LantrainError('LT_CLUSTER_MALFORMED', 'a set never dealt');
  };
  bad.sendFrame(frameOf(4)).catch(() => {});
  expect(await closed).toEqual(code('LT_CLUSTER_MALFORMED'));
  expect(await answers(good)).toBe(true);
});

test('frames of all connections together never take more than the pool', async () => {
  const { url, accepted, server } = await start({ receivePoolBytes: 4 * MIB });
  const workers = await Promise.all([join(url), join(url), join(url)]);
  let [held, most, done] = [0, 0, 0];
  for (const owner of accepted)
    owner.onFrame = async ({ bytes }) => {
      held += bytes;
      most = Math.max(most, held);
      await new Promise((resolve) => setTimeout(resolve, 5));
      held -= bytes;
      done++;
    };
  await Promise.all(workers.flatMap((w) => Array.from({ length: 12 }, () => w.sendFrame(frameOf(MIB + 400)))));
  await until(() => done === 36, 'all frames');
  expect(most).toBeGreaterThan(2 * MIB);
  expect(most).toBeLessThanOrEqual(4 * MIB);
  expect(server.pool.freeBytes).toBe(4 * MIB);
});

test('a pool serves everybody in turn, whole frames only, and takes back what is not used', () => {
  const pool = new ReceivePool(100);
  const log: string[] = [];
  const [a, b] = ['a', 'b'].map((name) => pool.member((bytes) => log.push(`${name}${bytes}`), name));
  for (const bytes of [60, 30, 30, 30]) a.want(bytes);
  b.want(50);
  // The second frame would exceed half of the pool; b's does not fit yet.
  expect(log).toEqual(['a60']);
  const release = a.take(60);
  expect(log).toEqual(['a60', 'a30']);
  release();
  release();
  expect(log).toEqual(['a60', 'a30', 'b50']);
  a.take(30)();
  expect(log).toEqual(['a60', 'a30', 'b50', 'a30']);
  expect(() => b.take(51)).toThrow(code('LT_CLUSTER_CREDIT'));
  b.leave();
  expect(log).toEqual(['a60', 'a30', 'b50', 'a30']);
  a.take(30)();
  a.leave();
  expect(pool.freeBytes).toBe(100);
  const c = pool.member(() => {});
  expect(() => c.want(101)).toThrow(code('LT_CLUSTER_CREDIT'));
  c.want(100);
  for (let i = 0; i < MAX_WANTS; i++) c.want(1);
  expect(() => c.want(1)).toThrow(code('LT_CLUSTER_CREDIT'));
});

test('nobody is granted so much of a pool that the next one gets nothing, by however many connections', () => {
  const pool = new ReceivePool(1000, 100);
  const granted = new Map<string, number>();
  const member = (person: string) =>
    pool.member((bytes) => granted.set(person, (granted.get(person) ?? 0) + bytes), person);
  const hoarder = () => {
    const one = member('hoarder');
    for (let i = 0; i < MAX_WANTS; i++) one.want(100);
  };
  hoarder();
  expect(granted.get('hoarder')).toBe(300);
  // Connections of one address leave something for the next one as well.
  hoarder();
  expect(granted.get('hoarder')).toBe(400);
  for (let i = 0; i < 5; i++) hoarder();
  expect(granted.get('hoarder')).toBe(500);
  member('honest').want(100);
  expect(granted.get('honest')).toBe(100);
  expect(() => member('greedy').want(101)).toThrow(code('LT_CLUSTER_CREDIT'));
  // A newcomer gets a frame as long as one fits, and waiting connections come before those with credit.
  for (let i = 0; i < 4; i++) member(`other ${i}`).want(100);
  expect([...granted.values()]).toEqual([500, 100, 100, 100, 100, 100]);
  expect(pool.freeBytes).toBe(0);
});

test('credit that others wait for is taken from who holds it and is silent', async () => {
  const { url, server, accepted } = await start({ receivePoolBytes: 2 * MIB, creditMs: 300, pingMs: 50 });
  const hoarder = await join(url, { limits: { pingMs: 50 } });
  hoarder.onControl = onlyFromCoordinator({});
  hoarder.send({ type: 'want', bytes: 2 * MIB } as never);
  await until(() => server.pool.freeBytes === 0, 'the grant');
  const worker = await join(url);
  const closed = closing(hoarder);
  let bytes = 0;
  accepted[1].onFrame = (frame) => {
    bytes += frame.bytes;
  };
  const frame = frameOf(MIB);
  await worker.sendFrame(frame);
  expect(await closed).toEqual(code('LT_CLUSTER_SILENT'));
  await until(() => bytes === frame.length, 'the frame');
});

test('pings measure the round trip and keep a quiet connection open', async () => {
  const limits = { pingMs: 40, missedPings: 4 };
  const { url, accepted } = await start(limits);
  const worker = await join(url, { limits });
  worker.onControl = onlyFromCoordinator({});
  await new Promise((resolve) => setTimeout(resolve, 600));
  expect(worker.isOpen && accepted[0].isOpen).toBe(true);
  expect(accepted[0].stats.roundTripMs).toBeGreaterThan(0);
  expect(worker.stats.roundTripMs).toBeLessThan(1000);
  expect(accepted[0].stats.silentMs).toBeLessThan(500);
});

test("a browser's page is pinged by messages, so that one that is frozen counts as silent", async () => {
  const limits = { pingMs: 40, missedPings: 4 };
  const { url, accepted, ended } = await start(limits);
  const { port, token = '' } = parseJoinUrl(url);
  const asBrowser = async (pingMs: number) => {
    const ws = new WebSocket(`ws://127.0.0.1:${port}/`, { origin: `http://127.0.0.1:${port}` });
    const socket = once(ws, 'upgrade');
    await once(ws, 'open');
    const wire = new NodeWire(ws, (await socket)[0].socket);
    const secrets = { token, version: VERSION, fingerprint: '' };
    const connection = await connectWorker(
      wire,
      secrets,
      { ...DEFAULT_LIMITS, ...limits, pingMs },
      { pingsByMessage: true },
    );
    connection.onControl = onlyFromCoordinator({});
    return { ws, connection };
  };
  const awake = await asBrowser(limits.pingMs);
  // Its script does not run, but its WebSocket still answers pings of the protocol.
  const frozen = await asBrowser(1e6);
  frozen.ws.removeAllListeners('message');
  await until(() => ended.length === 1, 'the end of the frozen one');
  expect(ended).toEqual([code('LT_CLUSTER_TIMEOUT')]);
  expect(accepted[1].isOpen).toBe(false);
  expect(awake.connection.isOpen && accepted[0].isOpen).toBe(true);
  expect(accepted[0].stats.roundTripMs).toBeLessThan(1000);
  expect(awake.connection.stats.roundTripMs).toBeLessThan(1000);
});

test('two processes exchange frames of 4 MiB both ways', async () => {
  const count = 24;
  const weights = {
    kind: 'weights-whole' as const,
    incarnation: 1,
    assignment: 0,
    step: 2,
    base: 0,
    bucket: 1,
    exponent: 0,
  };
  const frame = encodeFrame({ ...weights, weights: { a: 1, b: 2 } }, new Uint8Array(4 * MIB).fill(5));
  let intact = 0;
  let report: string | undefined;
  const onConnection = (connection: CoordinatorConnection) => {
    connection.onFrame = (up) => {
      if (payloadIntact(up)) intact++;
    };
    connection.onControl = onlyFromWorker({
      join: ({ name }) => {
        report = name;
      },
    });
    for (let i = 0; i < count; i++) connection.sendFrame(frame).catch(() => {});
  };
  const { url, accepted } = await start({}, { onConnection });
  const peer = fork('test/cluster/peer.mjs', [url, String(count), String(4 * MIB)]);
  const exit = once(peer, 'exit');
  await until(() => report !== undefined && intact === count, 'all frames', 60_000);
  expect(report).toBe(String(count));
  accepted[0].send({ type: 'stop', reason: 'done', final: true });
  expect((await exit)[0]).toBe(0);
});
