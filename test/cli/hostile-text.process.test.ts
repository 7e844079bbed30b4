import { once } from 'node:events';
import { appendFileSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { onlyFromCoordinator } from '../../cluster/protocol/protocol.js';
import { connect } from '../../cluster/transport/client.js';
import { encodeMessage } from '../../cluster/transport/messages.js';
import { parseJoinUrl } from '../../src/net/join-url.js';
import { Lantrain, startCoordinator } from '../cluster/processes.js';
import { slowTest } from '../slow.js';
import { lantrain, SMALL, workFolder } from './run.js';

/** Sequences that clear a terminal's screen, write its clipboard, and reverse the direction of text. */
const CLEAR = '\u001b[2J\u009b2J';
const CLIPBOARD = '\u001b]52;c;cm0gLXJmIC4=\u0007';
const FORGED = '\nadmin    https://evil';
const HOSTILE = `${CLEAR}${CLIPBOARD}\u202e${FORGED}`;

const folder = workFolder();
const running: { stop(): unknown }[] = [];
afterEach(async () => {
  for (const one of running.splice(0)) await one.stop();
});
afterAll(() => folder.remove());

const unseenIn = (text: string) => text.match(/[^\P{C}\n\t]/gu) ?? [];

/** Expects no control characters except line ends, and no line that begins with text of others. */
function expectHarmless(text: string): void {
  expect(unseenIn(text)).toEqual([]);
  expect(text.split('\n').filter((line) => line.startsWith('admin    https://evil'))).toEqual([]);
}

function run(args: readonly string[], environment: Record<string, string> = {}): Lantrain {
  const process = new Lantrain(args, folder.path, undefined, environment);
  running.push({ stop: () => kill(process) });
  return process;
}

async function kill(process: Lantrain): Promise<void> {
  process.signal('SIGKILL');
  await process.ended;
}

async function coordinate(...args: string[]) {
  const started = await startCoordinator([...SMALL, '--steps', '500', '--plain', ...args], folder.path);
  running.push({ stop: () => kill(started.coordinator) });
  return started;
}

slowTest('a stranger writes nothing on the terminal of a coordinator but its own refusal', async () => {
  const { coordinator, url } = await coordinate('--out', 'strangers');
  const { host, port } = parseJoinUrl(url);
  const ws = new WebSocket(`ws://${host}:${port}/`);
  await once(ws, 'open');
  ws.close(4000, HOSTILE);
  await coordinator.printed(/refused 127\.0\.0\.1/);
  const other = new WebSocket(`ws://${host}:${port}/`);
  await once(other, 'open');
  other.send(encodeMessage({ type: 'hello', protocol: 9999, version: CLEAR, nonce: new Uint8Array(32) }));
  await coordinator.printed(/refused .*protocol 9999/);
  expectHarmless(coordinator.text);
});

test('a member writes nothing on the terminal of a coordinator by its name, its adapter, its errors or its goodbye', async () => {
  const { coordinator, url } = await coordinate('--out', 'members');
  const parsed = parseJoinUrl(url);
  const connection = await connect(parsed, { token: parsed.token ?? '', version: '0' });
  const nothing = () => {};
  connection.onControl = onlyFromCoordinator({
    welcome: nothing,
    admit: nothing,
    assign: nothing,
    revoke: nothing,
    'hand-back': nothing,
    probe: ({ probe }) => connection.send({ type: 'probed', probe, hash: 'a'.repeat(64) }),
  });
  connection.send({ type: 'join', name: `eve${HOSTILE}`, adapter: HOSTILE });
  const event = async (name: string) => {
    for (const end = Date.now() + 20_000; !coordinator.events.some((e) => e.event === name); ) {
      expect(Date.now(), coordinator.text).toBeLessThan(end);
      await new Promise((wait) => setTimeout(wait, 50));
    }
  };
  await event('join');
  connection.send({ type: 'leave', reason: HOSTILE });
  await event('leave');
  expectHarmless(coordinator.text);
  expectHarmless(coordinator.events.map((e) => `${e.worker}${e.reason}`).join('\n'));
  expectHarmless(readFileSync(join(folder.path, 'members', 'metrics.jsonl'), 'utf8'));
});

test('a coordinator writes nothing on the terminal of a worker, nor its clipboard', async () => {
  const http = createServer();
  const server = new WebSocketServer({ server: http });
  let said = 0;
  server.on('connection', (ws) => {
    ws.on('error', () => {});
    ws.on('message', () => ws.close(4000, `LT_CLUSTER_CLOSED: ${++said}${HOSTILE}`));
  });
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  running.push({ stop: () => http.close() });
  const { port } = http.address() as AddressInfo;
  const worker = run(['worker', `ws://127.0.0.1:${port}/`], { LANTRAIN_TOKEN: 'a'.repeat(32) });
  await worker.printed(/trying again/);
  expectHarmless(worker.text);
});

test("what answers in a coordinator's place writes nothing on the terminal of a worker by its status line", async () => {
  const http = createServer();
  http.on('upgrade', (_, socket: Socket) => socket.end(`HTTP/1.1 404 \u009b2J${'x'.repeat(4000)}\r\n\r\n`, 'latin1'));
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  running.push({ stop: () => http.close() });
  const { port } = http.address() as AddressInfo;
  const worker = run(['worker', `ws://127.0.0.1:${port}/`], { LANTRAIN_TOKEN: 'a'.repeat(32) });
  expect(await worker.ended).toBe(1);
  expect(worker.text).toMatch(/LT_CLUSTER_FOREIGN.*404/);
  expect(worker.text.length).toBeLessThan(2000);
  expectHarmless(worker.text);
});

const FOREIGN = `foreign${CLEAR}\u202e`;

beforeAll(async () => {
  const steps = ['--eval-every', '0', '--steps', '4', '--out', 'given'];
  const { code, stderr } = await lantrain(['train', ...SMALL, ...steps], { cwd: folder.path });
  expect(code, stderr).toBe(0);
  const path = join(folder.path, 'given');
  const config = JSON.parse(readFileSync(join(path, 'config.json'), 'utf8'));
  config.data.description = HOSTILE;
  config.adapter = HOSTILE;
  config.version = CLEAR;
  writeFileSync(join(path, 'config.json'), JSON.stringify(config));
  const lines = [
    { event: 'sample', step: 4, text: HOSTILE },
    { event: 'join', step: 4, worker: HOSTILE, reason: `bit class a-1, ${HOSTILE}` },
    { event: 'failed', step: 4, reason: HOSTILE },
  ];
  appendFileSync(join(path, 'metrics.jsonl'), lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
  renameSync(path, join(folder.path, FOREIGN));
});

slowTest(
  'a run from somebody else writes nothing on the terminal, whatever its names, settings and samples are',
  async () => {
    const said = [];
    for (const args of [
      ['report', FOREIGN],
      ['train', '--resume', FOREIGN],
      ['train', '--resume', FOREIGN, '--steps', '6'],
      ['report', `${FOREIGN}\nadmin    https://evil`],
      ['export', '--run', FOREIGN, '--out', 'exported'],
    ]) {
      const { stdout, stderr } = await lantrain(args, { cwd: folder.path });
      expectHarmless(stdout);
      expectHarmless(stderr);
      said.push(stdout + stderr);
    }
    expect(said[2]).toContain('done     6 steps, from step 4 on');
    const report = readFileSync(join(folder.path, FOREIGN, 'report.html'), 'utf8');
    expect(unseenIn(report)).toEqual([]);
    expect(report.includes('<h1>foreign␛[2J�2J�</h1>')).toBe(true);
  },
);

test('what a model writes is text: its control characters are shown, its lines stay lines', async () => {
  const drawn = ['--temperature', '50', '--top-k', '0', '--tokens', '600', '--prompt', 'The whale\tand\n'];
  const { code, stdout, stderr } = await lantrain(['generate', '--run', FOREIGN, ...drawn], { cwd: folder.path });
  expect(code, stderr).toBe(0);
  expectHarmless(stdout);
  expectHarmless(stderr);
  expect(stdout.startsWith('The whale\tand\n')).toBe(true);
  // A model that draws bytes by chance draws escapes among them.
  expect(stdout).toContain('␛');
});
