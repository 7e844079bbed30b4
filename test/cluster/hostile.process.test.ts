import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect as connectSocket } from 'node:net';
import fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';
import { type RawData, WebSocket } from 'ws';
import { packLoss } from '../../cluster/exchange/blocks.js';
import { encodeFrame, type FrameHeader } from '../../cluster/protocol/frame.js';
import type { WorkerMessage } from '../../cluster/protocol/protocol.js';
import { microBatchSet } from '../../cluster/round/sets.js';
import { workerHandshake } from '../../cluster/transport/handshake.js';
import { encodeMessage, type FromWorker } from '../../cluster/transport/messages.js';
import { type JoinUrl, parseJoinUrl } from '../../src/net/join-url.js';
import { parseFragment } from '../../src/watch/messages.js';
import { SMALL, workFolder } from '../cli/run.js';
import { IS_THOROUGH } from '../thorough.js';
import { FakePage } from '../watch/helpers.js';
import { Lantrain, startCoordinator, startWorker } from './processes.js';

const folder = workFolder();
afterAll(() => folder.remove());

const MIB = 2 ** 20;
const OPTIONS = [...SMALL, '--steps', '60', '--dropout', '0.1'];

/** Address of the attackers; the honest worker comes from 127.0.0.1. */
const EVIL = '127.0.0.2';

async function open(url: JoinUrl): Promise<WebSocket> {
  const ws = new WebSocket(`ws://${url.host}:${url.port}/`, { perMessageDeflate: false, localAddress: EVIL });
  ws.on('error', () => {});
  await Promise.race([once(ws, 'open'), once(ws, 'close')]);
  return ws;
}

/** Resolves when the coordinator has closed the connection, or after a while. */
async function over(ws: WebSocket): Promise<void> {
  if (ws.readyState !== WebSocket.CLOSED)
    await Promise.race([once(ws, 'close'), new Promise((go) => setTimeout(go, 3000))]);
  ws.terminate();
}

/** A connection that knows the token, joins, and can then do anything. */
async function insider(url: JoinUrl): Promise<WebSocket> {
  const ws = await open(url);
  const arrived: Uint8Array[] = [];
  let arrival = () => {};
  const onMessage = (data: RawData) => {
    arrived.push(data as Buffer);
    arrival();
  };
  ws.on('message', onMessage);
  const receive = async () => {
    for (;;) {
      const next = arrived.shift();
      if (next) return next;
      await new Promise<void>((go, fail) => {
        arrival = go;
        ws.once('close', () => fail(new Error('closed in the handshake')));
      });
    }
  };
  const channel = { send: (message: Uint8Array) => ws.send(message), receive };
  await workerHandshake(channel, { token: url.token ?? '', version: '0', fingerprint: '' });
  ws.off('message', onMessage);
  ws.on('message', () => {});
  say(ws, { type: 'join', name: 'hostile', adapter: 'none' });
  return ws;
}

function say(ws: WebSocket, message: FromWorker): void {
  if (ws.readyState === WebSocket.OPEN) ws.send(encodeMessage(message));
}

const residentMiB = (pid: number) =>
  Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024;

const contribution = (more: Partial<Extract<FrameHeader, { kind: 'contribution' }>>): FrameHeader => ({
  kind: 'contribution',
  incarnation: 1,
  assignment: 1,
  step: 1,
  bucket: 1,
  microBatches: microBatchSet([0]),
  ...more,
});

/** Frames of insiders: stale, replayed, of future steps, never dealt, with nonsense inside. */
function frames(): Uint8Array[] {
  const loss = packLoss(12345n);
  const nonsense = new Uint8Array(4096).fill(0xa5);
  return [
    encodeFrame(contribution({}), loss),
    encodeFrame(contribution({}), loss),
    encodeFrame(contribution({ step: 4_000_000 }), loss),
    encodeFrame(contribution({ assignment: 4_000_000 }), loss),
    encodeFrame(contribution({ bucket: 0 }), nonsense),
    encodeFrame(contribution({ microBatches: microBatchSet([1]) }), nonsense).subarray(0, 100),
    new Uint8Array(12 * MIB),
  ];
}

async function attack(url: JoinUrl): Promise<void> {
  const outside = fc.sample(fc.uint8Array({ minLength: 1, maxLength: 400 }), 15);
  for (const bytes of outside) {
    const socket = connectSocket({ port: url.port, host: url.host, localAddress: EVIL });
    socket.on('error', () => {});
    socket.end(bytes);
    const ws = await open(url);
    if (ws.readyState === WebSocket.OPEN) ws.send(bytes);
    await over(ws);
  }
  const stranger = { ...url, token: `${(url.token ?? '').slice(0, -1)}${url.token?.endsWith('A') ? 'B' : 'A'}` };
  await expect(insider(stranger)).rejects.toThrow();
  for (const frame of frames()) {
    const ws = await insider(url);
    say(ws, { type: 'want', bytes: frame.length });
    if (ws.readyState === WebSocket.OPEN) ws.send(frame);
    await over(ws);
  }
  const lies: WorkerMessage[] = [
    { type: 'progress', assignment: 7, begun: 3, done: 2 },
    { type: 'handed-back', assignment: 7, microBatches: [0, 1] },
    { type: 'refused', assignment: 7, microBatch: 0, what: 'a lie' },
    { type: 'evaluated', assignment: 7, microBatches: [0], low: 1, high: 1, finite: true },
    { type: 'mismatch', buckets: [0, 99] },
    { type: 'ready' },
  ];
  for (const message of lies) {
    const ws = await insider(url);
    say(ws, message);
    setTimeout(() => ws.terminate(), 200);
  }
}

/** Attacks all through a run; returns a function that ends them. */
async function pester(url: JoinUrl, watch: URL): Promise<() => void> {
  const hoarder = await insider(url);
  for (let i = 0; i < 8; i++) say(hoarder, { type: 'want', bytes: 8 * MIB });
  const page = await FakePage.enter(Number(watch.port), parseFragment(watch.hash), false, EVIL);
  let deaf = await insider(url);
  deaf.pause();
  const ping = encodeMessage({ type: 'ping', at: 1 });
  const stale = encodeFrame(contribution({}), packLoss(1n));
  let round = 0;
  const timer = setInterval(() => {
    round++;
    if (page.ws.readyState === WebSocket.OPEN)
      page.send({ type: 'range', id: round, from: 0, to: 100_000 + round, points: 4000 });
    if (hoarder.readyState === WebSocket.OPEN && round % 50 === 0) hoarder.send(stale);
    if (deaf.readyState === WebSocket.OPEN) for (let i = 0; i < 200; i++) deaf.send(ping);
    else if (round % 50 === 0)
      void insider(url).then(
        (ws) => {
          deaf = ws;
          deaf.pause();
        },
        () => {},
      );
  }, 40);
  return () => {
    clearInterval(timer);
    for (const ws of [hoarder, deaf, page.ws]) ws.terminate();
  };
}

test.skipIf(process.platform !== 'linux' || !IS_THOROUGH)(
  'a coordinator that is attacked goes on training, ends with the same digest and stays small',
  async () => {
    const single = new Lantrain(['train', ...OPTIONS, '--out', 'alone', '--json'], folder.path);
    expect(await single.ended, single.text).toBe(0);
    let trains = () => {};
    const training = new Promise<void>((go) => {
      trains = go;
    });
    const args = [...OPTIONS, '--out', 'attacked', '--plain'];
    const { coordinator, url } = await startCoordinator(args, folder.path, ({ event }) => {
      if (event === 'step') trains();
    });
    const target = parseJoinUrl(url);
    const silent = await open(target);
    const deaf = await insider(target);
    deaf.pause();
    const good = startWorker(url, 'good', folder.path, '--plain', '--drag', '250');
    await training;
    const leave = await pester(target, new URL(await coordinator.printed(/watch {4}(http\S+)/)));
    const before = residentMiB(coordinator.child.pid ?? 0);
    await attack(target);
    const after = residentMiB(coordinator.child.pid ?? 0);
    expect(coordinator.running, 'the run outlasts the attack').toBe(true);
    // Each sent at most twelve MiB at once. Pools bound the memory, not the amount sent.
    expect(after - before).toBeLessThan(250);
    silent.terminate();
    deaf.terminate();
    expect(await coordinator.ended, coordinator.text).toBe(0);
    expect(await good.ended, good.text).toBe(0);
    leave();
    expect(coordinator.digest()).toBe(single.digest());
  },
);
