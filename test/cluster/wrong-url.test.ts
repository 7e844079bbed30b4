import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer as createHttpServer } from 'node:http';
import { createServer as createHttpsServer } from 'node:https';
import { type AddressInfo, createServer as createTcpServer, type Server } from 'node:net';
import { networkInterfaces, tmpdir } from 'node:os';
import { join as joinPath } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { WebSocketServer } from 'ws';
import { PROTOCOL_VERSION } from '../../cluster/protocol/protocol.js';
import type { WorkerConnection } from '../../cluster/transport/connection.js';
import { encodeMessage } from '../../cluster/transport/messages.js';
import { WorkerSession } from '../../cluster/worker/worker-session.js';
import { LantrainError } from '../../src/errors.js';
import { type Access, loadOrCreateAccess, newToken } from '../../src/net/access.js';
import { type JoinUrl, parseJoinUrl } from '../../src/net/join-url.js';
import { servePage } from '../../src/watch/server/page-server.js';
import { serveSite } from '../../src/watch/server/site.js';
import { Telemetry } from '../../src/watch/server/telemetry.js';
import { Watchers } from '../../src/watch/server/watchers.js';
import { join, startServer, VERSION } from './transport-helpers.js';

let folder: string;
let access: Access;
const open: { close(reason?: never): unknown }[] = [];

beforeAll(async () => {
  folder = await mkdtemp(joinPath(tmpdir(), 'lantrain-wrong-url-'));
  access = await loadOrCreateAccess(folder);
});
afterAll(() => rm(folder, { recursive: true }));
afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
});

async function listen(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  open.push(server);
  return (server.address() as AddressInfo).port;
}

/** A coordinator with a page, as started by `lantrain coordinator`. */
async function coordinator(secure: boolean): Promise<{ readonly url: string; readonly port: number }> {
  const tls = secure ? access : undefined;
  const { server, url } = await startServer({}, { token: access.token, tls, onRequest: serveSite(folder) });
  open.push(server);
  return { url, port: server.port };
}

/** The error of a worker with this URL. It must end with one. */
async function failure(url: string, handshakeMs = 5_000): Promise<LantrainError> {
  const result = await join(url, { limits: { handshakeMs }, version: VERSION }).catch((error: unknown) => error);
  expect(result).toBeInstanceOf(LantrainError);
  const { message } = result as LantrainError;
  expect(message).not.toContain('\n');
  expect(message, 'the token is not repeated').not.toContain(access.token);
  return result as LantrainError;
}

const secret = () => `${access.token}.${access.fingerprint}`;

test('a URL that was cut at the dot is refused, with the advice to copy all of it', async () => {
  const { url } = await coordinator(true);
  const cut = url.slice(0, url.lastIndexOf('.'));
  expect(await failure(cut)).toMatchObject({
    code: 'LT_CLUSTER_URL',
    exitCode: 2,
    message: expect.stringMatching(/ends before the fingerprint.*copy all of it/),
  });
  expect(() => parseJoinUrl(`${cut}.`)).toThrow(/fingerprint is cut off/);
  expect(() => parseJoinUrl(access.token)).toThrow(/a part of one/);
});

test.each(['ws', 'http'])('a worker with %s:// is told that the coordinator speaks TLS', async (scheme) => {
  const { url } = await coordinator(true);
  const cut = url.slice(0, url.lastIndexOf('.')).replace(/^\w+/, scheme);
  expect(await failure(cut)).toMatchObject({
    code: 'LT_CLUSTER_URL',
    message: expect.stringMatching(/speaks TLS.*wss:\/\//),
  });
  expect(() => parseJoinUrl(url.replace(/^\w+/, scheme))).toThrow(/fingerprint belongs to wss/);
});

test.each(['wss', 'https'])('a worker with %s:// is told that the coordinator speaks plainly', async (scheme) => {
  const { port } = await coordinator(false);
  for (const fragment of [access.token, secret()])
    expect(await failure(`${scheme}://127.0.0.1:${port}/#${fragment}`)).toMatchObject({
      code: 'LT_CLUSTER_URL',
      message: expect.stringMatching(/plain ws.*--plain/),
    });
});

test("the page's link joins as well, and its admin link is named", async () => {
  const { url } = await coordinator(true);
  (await join(url.replace('wss', 'https'))).close();
  expect(() => parseJoinUrl(`${url}.${newToken()}`)).toThrow(/admin link/);
  expect(() => parseJoinUrl(`ws://127.0.0.1:7070/#${newToken()}..${newToken()}`)).toThrow(/admin link/);
  expect(() => parseJoinUrl('wss://127.0.0.1:7070/#watch')).toThrow(/token is cut off or damaged/);
});

test.each([true, false])('the page of train --watch or view takes no workers, with TLS %s', async (secure) => {
  const facts = { type: 'run', name: 'r', version: VERSION, kind: 'single', model: '', data: '', adapter: '' } as const;
  const telemetry = new Telemetry({ ...facts, totalSteps: 1, tokensPerStep: 1, stepsPerEpoch: 1, settings: [] });
  const secrets = { token: access.token, fingerprint: secure ? access.fingerprint : '', admin: '' };
  const watchers = new Watchers({ secrets, telemetry });
  const tls = secure ? access : undefined;
  const page = await servePage({ host: '127.0.0.1', port: 0, tls, site: folder, watchers });
  open.push({ close: () => page.close('the test is over') });
  const { port } = page;
  const url = secure ? `https://127.0.0.1:${port}/#${secret()}` : `http://127.0.0.1:${port}/#${access.token}`;
  expect(await failure(url)).toMatchObject({
    code: 'LT_CLUSTER_URL',
    message: expect.stringMatching(/page of a run.*train --watch.*takes no workers/),
  });
});

test.each([
  [404, 'LT_CLUSTER_FOREIGN', /no coordinator of lantrain.*404 Not Found/],
  [200, 'LT_CLUSTER_FOREIGN', /no coordinator of lantrain.*200 OK/],
  [301, 'LT_CLUSTER_FOREIGN', /301/],
  [502, 'LT_CLUSTER_CONNECT', /502 Bad Gateway/],
  [503, 'LT_CLUSTER_CONNECT', /503/],
])('a web server that answers %i is named, and not taken for a coordinator', async (status, code, message) => {
  const answer = (_: unknown, response: { writeHead(n: number): { end(text: string): void } }) =>
    response.writeHead(status).end('<title>a router</title>');
  const plain = await listen(createHttpServer(answer));
  const secure = await listen(createHttpsServer({ cert: access.certificate, key: access.key }, answer));
  const expected = { code, message: expect.stringMatching(message) };
  expect(await failure(`ws://127.0.0.1:${plain}/#${access.token}`)).toMatchObject(expected);
  expect(await failure(`wss://127.0.0.1:${secure}/#${secret()}`)).toMatchObject(expected);
  expect(await failure(`wss://127.0.0.1:${plain}/#${secret()}`)).toMatchObject({
    code: 'LT_CLUSTER_FOREIGN',
    message: expect.stringMatching(`web server without TLS.*${status}`),
  });
});

test.each(['ws', 'wss'])('a worker with %s:// is told that an SSH server is there', async (scheme) => {
  const ssh = createTcpServer((socket) => {
    socket.on('error', () => {}).write('SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n');
    socket.on('data', () => socket.end('Invalid SSH identification string.\r\n'));
  });
  const port = await listen(ssh);
  const fragment = scheme === 'ws' ? access.token : secret();
  expect(await failure(`${scheme}://127.0.0.1:${port}/#${fragment}`)).toMatchObject({
    code: 'LT_CLUSTER_FOREIGN',
    exitCode: 1,
    message: expect.stringMatching(/no coordinator of lantrain.*SSH-2\.0-OpenSSH_9\.2p1/),
  });
});

test('a WebSocket of something else is named, whether it speaks at once or answers in its own way', async () => {
  for (const at of ['connection', 'message'] as const) {
    const http = createHttpServer();
    const server = new WebSocketServer({ server: http });
    server.on('connection', (ws) => {
      if (at === 'connection') ws.send('{"type":"connected"}');
      else ws.on('message', () => ws.send(Buffer.from('what?')));
    });
    const port = await listen(http);
    expect(await failure(`ws://127.0.0.1:${port}/#${access.token}`)).toMatchObject({
      code: 'LT_CLUSTER_FOREIGN',
      message: expect.stringMatching(/WebSocket of something else/),
    });
    for (const client of server.clients) client.terminate();
  }
});

test('a proxy that ends TLS, or another server with TLS, is named', async () => {
  const other = await loadOrCreateAccess(joinPath(folder, 'other'));
  const port = await listen(createHttpsServer({ cert: other.certificate, key: other.key }));
  expect(await failure(`wss://127.0.0.1:${port}/#${secret()}`)).toMatchObject({
    code: 'LT_CLUSTER_FINGERPRINT',
    message: expect.stringMatching(/a proxy that ends TLS, another coordinator/),
  });
  const old = await listen(createHttpsServer({ cert: access.certificate, key: access.key, maxVersion: 'TLSv1.2' }));
  expect(await failure(`wss://127.0.0.1:${old}/#${secret()}`)).toMatchObject({
    code: 'LT_CLUSTER_FOREIGN',
    message: expect.stringMatching(/older TLS than 1\.3/),
  });
});

test('a lantrain of another version is named, with what to do', async () => {
  const http = createHttpServer();
  new WebSocketServer({ server: http }).on('connection', (ws) => {
    const challenge = {
      type: 'challenge',
      protocol: PROTOCOL_VERSION + 1,
      version: '9.9.9',
      nonce: new Uint8Array(32),
    };
    ws.on('message', () => ws.send(encodeMessage(challenge as never)));
  });
  const port = await listen(http);
  expect(await failure(`ws://127.0.0.1:${port}/#${access.token}`)).toMatchObject({
    code: 'LT_CLUSTER_VERSION',
    message: expect.stringMatching(/lantrain 9\.9\.9.*bring both to the same version/),
  });
});

test('a token of another run, or a cut one, is refused', async () => {
  const { url } = await coordinator(true);
  const parsed = parseJoinUrl(url);
  expect(await failure(url.replace(parsed.token ?? '', newToken()))).toMatchObject({ code: 'LT_CLUSTER_TOKEN' });
  expect(await failure(url.replace(parsed.token ?? '', (parsed.token ?? '').slice(2)))).toMatchObject({
    code: 'LT_CLUSTER_TOKEN',
  });
});

test('nobody there, a server that hangs up and one that is mute may pass, and each is named', async () => {
  const gone = createTcpServer();
  const port = await listen(gone);
  await new Promise((closed) => gone.close(closed));
  open.pop();
  for (const scheme of ['ws', 'wss'])
    expect(await failure(`${scheme}://127.0.0.1:${port}/#${access.token}`)).toMatchObject({
      code: 'LT_CLUSTER_CONNECT',
      message: expect.stringContaining('ECONNREFUSED'),
    });
  const curt = await listen(createTcpServer((socket) => socket.on('error', () => {}).destroy()));
  for (const scheme of ['ws', 'wss'])
    expect((await failure(`${scheme}://127.0.0.1:${curt}/#${access.token}`)).code).toBe('LT_CLUSTER_CONNECT');
  const sockets: { destroy(): void }[] = [];
  const mute = await listen(createTcpServer((socket) => void sockets.push(socket.on('error', () => {}))));
  for (const scheme of ['ws', 'wss'])
    expect((await failure(`${scheme}://127.0.0.1:${mute}/#${access.token}`, 300)).code).toBe('LT_CLUSTER_CONNECT');
  for (const socket of sockets) socket.destroy();
});

const six = Object.values(networkInterfaces()).some((infos) => infos?.some(({ address }) => address === '::1'));
const [[zone, linkLocal] = []] = Object.entries(networkInterfaces()).flatMap(([name, infos = []]) =>
  infos.filter(({ address }) => address.startsWith('fe80:')).map(({ address }) => [name, address]),
);

test.skipIf(!six)('a URL of IPv6 loopback or of all addresses at once is read, and a worker joins', async () => {
  for (const host of ['::1', '::']) {
    const { server } = await startServer({}, { token: access.token, tls: access, host });
    open.push(server);
    for (const shown of host === '::' ? ['::1', '127.0.0.1'] : ['::1']) {
      const url = server.joinUrl(shown);
      expect(url).toContain(shown === '::1' ? '//[::1]:' : '//127.0.0.1:');
      const connection = await join(url);
      expect(connection.peer).toBe(`${shown === '::1' ? '[::1]' : shown}:${server.port}`);
      connection.close();
    }
  }
});

test.skipIf(zone === undefined || process.platform !== 'linux')(
  'a link-local address without an interface, or with one that is not here, is refused',
  async () => {
    const url = (host: string) => `wss://[${host}]:7070/#${secret()}`;
    for (const host of ['fe80::1', 'fe80::1%25nowhere9'])
      expect(await failure(url(host))).toMatchObject({
        code: 'LT_CLUSTER_URL',
        message: expect.stringMatching(/link-local.*interface of this machine/),
      });
  },
);

test.skipIf(zone === undefined)('a link-local address with its interface is printed, read and joined', async () => {
  const host = `${linkLocal}%${zone}`;
  const { server } = await startServer({}, { token: access.token, tls: access, host });
  open.push(server);
  const url = server.joinUrl(host);
  expect(url).toContain(`[${linkLocal}%25${zone}]:`);
  expect(parseJoinUrl(url).host).toBe(host);
  expect(parseJoinUrl(url.replace('%25', '%')).host, 'as people type it').toBe(host);
  (await join(url)).close();
});

/** A worker's session with scripted results of `connect`, one per try. */
async function stay(tries: (LantrainError | 'in' | 'in, done')[]): Promise<unknown> {
  const connect = async () => {
    const next = tries.shift();
    if (next instanceof LantrainError) throw next;
    return connectionThatStops(next === 'in, done');
  };
  const gpu = { adapter: { name: 'none', driver: '' }, check: () => {} };
  const session = new WorkerSession({
    connect,
    engines: { gpu, hasShaders: true } as never,
    name: 'w',
    patienceMs: 0,
    onNote: ({ note }) => {
      // Tries again at once.
      if (note === 'lost') setTimeout(() => session.wake(), 5);
    },
  });
  return session.run().catch((error: unknown) => error);
}

function connectionThatStops(final: boolean): WorkerConnection {
  const connection = { isOpen: true, send: () => {}, close: () => {} } as unknown as WorkerConnection;
  // The reason does not matter.
  setTimeout(() => connection.onControl.stop({ type: 'stop', reason: 'failed', final }), 1);
  return connection;
}

const error = (code: ConstructorParameters<typeof LantrainError>[0]) => new LantrainError(code, `${code} it is`);

test('a stay ends by codes, not by words: a final stop, and what trying again does not mend', async () => {
  expect(await stay([error('LT_CLUSTER_CONNECT'), 'in', error('LT_CLUSTER_TIMEOUT'), 'in, done'])).toBe('done');
  for (const code of ['LT_CLUSTER_URL', 'LT_CLUSTER_FINGERPRINT', 'LT_CLUSTER_FOREIGN', 'LT_CLUSTER_VERSION'] as const)
    expect(await stay([error(code)])).toMatchObject({ code });
  // A worker that has been connected has a right URL: another program took the port for a while.
  expect(await stay(['in', error('LT_CLUSTER_FOREIGN'), 'in, done'])).toBe('done');
  expect(await stay(['in', error('LT_CLUSTER_TOKEN')])).toMatchObject({ code: 'LT_CLUSTER_TOKEN' });
});

test('a URL with a zone names the host without it to the server', async () => {
  const parsed: JoinUrl = parseJoinUrl('wss://[FE80::1%25eth0]:7070/');
  expect(parsed).toEqual({ secure: true, host: 'fe80::1%eth0', port: 7070 });
});
