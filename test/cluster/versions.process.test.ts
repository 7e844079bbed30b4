import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, expect, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { PROTOCOL_VERSION } from '../../cluster/protocol/protocol.js';
import { explain } from '../../cluster/tab/words.js';
import { encodeMessage } from '../../cluster/transport/messages.js';
import { work } from '../../cluster/work.js';
import { newToken } from '../../src/net/access.js';
import { version } from '../../src/node/version.js';
import { failure } from '../checkpoint/helpers.js';
import { lantrain, SMALL, workFolder } from '../cli/run.js';
import { startCoordinator } from './processes.js';

const folder = workFolder();
const open: { close(): unknown }[] = [];
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});
afterAll(() => folder.remove());

const NEWER = PROTOCOL_VERSION + 1;
const OLDER = PROTOCOL_VERSION - 1;
const own = `${PROTOCOL_VERSION} (${version()})`;
/** Escapes a text for a regular expression. */
const literally = (text: string) => text.replace(/[().]/g, '\\$&');

/** The first message of another version, with fields that this version does not know. */
const greeting = (type: 'hello' | 'challenge', protocol: number, of: string) =>
  encodeMessage({ type, protocol, version: of, nonce: new Uint8Array(32), more: [1] } as never);

/** The join URL of a coordinator with another protocol version. */
async function coordinatorOf(protocol: number, of: string): Promise<string> {
  const http = createServer();
  new WebSocketServer({ server: http }).on('connection', (ws) => {
    ws.on('message', () => ws.send(greeting('challenge', protocol, of)));
  });
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  open.push(http);
  return `ws://127.0.0.1:${(http.address() as AddressInfo).port}/#${newToken()}`;
}

test('a worker of the command line ends with one line that names both versions, and says what to do', async () => {
  const url = await coordinatorOf(NEWER, '9.8.7');
  const { code, stderr } = await lantrain(['worker', url, '--quiet'], { cwd: folder.path });
  const both = `coordinator speaks protocol ${NEWER} (lantrain 9.8.7), worker ${own}`;
  expect(stderr).toBe(`error LT_CLUSTER_VERSION: ${both}: bring both to the same version of lantrain\n`);
  expect(code).toBe(1);
});

test('a worker of the library is refused with the same line by an older coordinator, and does not try again', async () => {
  const url = await coordinatorOf(OLDER, '0.0.9');
  expect(await failure('LT_CLUSTER_VERSION', () => work({ url }))).toBe(
    `coordinator speaks protocol ${OLDER} (lantrain 0.0.9), worker ${own}: bring both to the same version of lantrain`,
  );
});

test('a coordinator tells an older worker and a newer one both versions, says so in one line each, and goes on', async () => {
  const options = [...SMALL, '--steps', '1', '--out', 'run', '--plain'];
  const { coordinator, url } = await startCoordinator(options, folder.path);
  open.push({ close: () => coordinator.signal('SIGKILL') });
  const { host } = new URL(url);
  for (const [protocol, of] of [
    [OLDER, '0.0.9'],
    [NEWER, '9.8.7'],
  ] as const) {
    const ws = new WebSocket(`ws://${host}/`);
    await once(ws, 'open');
    ws.send(greeting('hello', protocol, of));
    const [, reason] = await once(ws, 'close');
    const both = `worker speaks protocol ${protocol} (lantrain ${of}), coordinator ${own}`;
    expect(String(reason)).toBe(`LT_CLUSTER_VERSION: ${both}`);
    await coordinator.printed(new RegExp(`^refused 127\\.0\\.0\\.1:\\d+: ${literally(both)}$`, 'm'));
  }
  expect(coordinator.text.match(/^refused /gm)).toHaveLength(2);
  expect(await work({ url })).toMatchObject({ how: 'done' });
  expect(await coordinator.ended, coordinator.text).toBe(0);
});

test('a tab of another version says both, and to reload the page', () => {
  const message = `worker speaks protocol ${OLDER} (lantrain 0.0.9), coordinator ${own}`;
  expect(explain({ code: 'LT_CLUSTER_VERSION', message })).toBe(
    `${message}. The page is of another version than the coordinator: reload it.`,
  );
});
