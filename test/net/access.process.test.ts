import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createConnection, createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join as joinPath } from 'node:path';
import { Readable } from 'node:stream';
import { createServer as createTlsServer } from 'node:tls';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { PROTOCOL_VERSION } from '../../cluster/protocol/protocol.js';
import { advertise, discover, readService, serviceName } from '../../cluster/transport/discovery.js';
import { coordinatorHandshake, type MessageChannel, workerHandshake } from '../../cluster/transport/handshake.js';
import { encodeMessage } from '../../cluster/transport/messages.js';
import { ClusterServer } from '../../cluster/transport/server.js';
import {
  type Access,
  fingerprintOf,
  loadOrCreateAccess,
  newToken,
  readToken,
  savePort,
  tokenFromEnvironment,
} from '../../src/net/access.js';
import { checkToken, formatJoinUrl, parseJoinUrl } from '../../src/net/join-url.js';
import { answers, join, startServer, VERSION } from '../cluster/transport-helpers.js';

let folder: string;
const open: { close(): Promise<void> | unknown }[] = [];

beforeEach(async () => {
  folder = await mkdtemp(joinPath(tmpdir(), 'lantrain-access-'));
});

afterEach(async () => {
  for (const one of open.splice(0)) await one.close();
  await rm(folder, { recursive: true });
});

const code = (name: string) => expect.objectContaining({ code: name });
const tlsOf = ({ certificate, key, fingerprint }: Access) => ({ certificate, key, fingerprint });

async function secureServer(access: Access) {
  const test = await startServer({}, { token: access.token, tls: tlsOf(access) });
  open.push(test.server);
  return test;
}

test('a join URL comes back from its text, and without brackets means nothing to a shell', async () => {
  const host = fc.constantFrom('127.0.0.1', 'a-b.example', '::1', 'fe80::1', 'fe80::1%eth0', 'fe80::1%25');
  const made = fc.record({ secure: fc.constant(true), host, port: fc.integer({ min: 1, max: 65535 }) });
  const urls = fc
    .sample(made, 50)
    .map((url) => ({ ...url, token: newToken(), fingerprint: fingerprintOf(new Uint8Array(3)) }));
  for (const url of urls) {
    expect(parseJoinUrl(formatJoinUrl(url))).toEqual(url);
    expect(parseJoinUrl(formatJoinUrl(url).replace('wss:', 'https:')), 'the link of the page').toEqual(url);
  }
  for (const [shell] of [['sh'], ['bash']]) {
    const [url] = urls.filter(({ host }) => !host.includes(':'));
    const { stdout } = await promisify(execFile)(shell, ['-c', `printf %s ${formatJoinUrl(url)}`]);
    expect(stdout).toBe(formatJoinUrl(url));
  }
  const found = { secure: true, host: 'h', port: 5, fingerprint: fingerprintOf(new Uint8Array(3)) };
  expect(parseJoinUrl(formatJoinUrl(found))).toEqual(found);
});

test.each([
  'nonsense',
  'ftp://a:1/#aaaaaaaaaaaaaaaaaaaaaa',
  'wss://a:1/path#aaaaaaaaaaaaaaaaaaaaaa',
  'wss://a:1/?x#aaaaaaaaaaaaaaaaaaaaaa',
  'wss://user@a:1/#aaaaaaaaaaaaaaaaaaaaaa',
  'wss://a:1/#short',
  'wss://a:1/#aaaaaaaaaaaaaaaaaaaaaa.short',
  `ws://a:1/#aaaaaaaaaaaaaaaaaaaaaa.${'f'.repeat(43)}`,
  `wss://a:1/#aaaaaaaaaaaaaaaaaaaaaa.${'f'.repeat(43)}.x`,
  'wss://a:99999/#aaaaaaaaaaaaaaaaaaaaaa',
])('%s is not a join URL, and the message does not repeat its token', (text) => {
  expect(() => parseJoinUrl(text)).toThrow(code('LT_CLUSTER_URL'));
  try {
    parseJoinUrl(text);
  } catch (error) {
    expect(String(error)).not.toContain('aaaaaaaa');
  }
});

test('tokens have 128 bits and more, and come by environment or standard input', async () => {
  const token = newToken();
  expect(Buffer.from(token, 'base64url').length).toBeGreaterThanOrEqual(16);
  expect(newToken()).not.toBe(token);
  expect(tokenFromEnvironment({ LANTRAIN_TOKEN: ` ${token}\n` })).toBe(token);
  expect(tokenFromEnvironment({})).toBeUndefined();
  expect(() => tokenFromEnvironment({ LANTRAIN_TOKEN: 'short' })).toThrow(code('LT_CLUSTER_TOKEN'));
  expect(() => checkToken('a b'.repeat(20), 'x')).toThrow(code('LT_CLUSTER_TOKEN'));
  expect(await readToken(Readable.from([token.slice(0, 5), `${token.slice(5)}\nmore`]))).toBe(token);
});

test('access is made once, kept for the owner only, and the same when it is read again', async () => {
  const where = joinPath(folder, 'access');
  const first = await loadOrCreateAccess(where);
  await savePort(where, 7041);
  expect(await loadOrCreateAccess(where)).toEqual({ ...first, port: 7041 });
  expect(first.fingerprint).toBe(fingerprintOf(first.certificate));
  const files = await readdir(where);
  expect(files.sort()).toEqual(['admin-token', 'certificate.pem', 'key.pem', 'marks.json', 'port', 'token']);
  if (process.platform === 'win32') return;
  expect((await stat(where)).mode & 0o777).toBe(0o700);
  for (const name of files) expect((await stat(joinPath(where, name))).mode & 0o777).toBe(0o600);
});

test('secrets that are damaged or exchanged are made anew, and a file in the way is named', async () => {
  const first = await loadOrCreateAccess(folder);
  expect(first.remark).toBeUndefined();
  const other = joinPath(folder, 'other');
  const { certificate } = await loadOrCreateAccess(other);
  let before = first;
  for (const text of ['no certificate', certificate]) {
    await writeFile(joinPath(folder, 'certificate.pem'), text);
    const access = await loadOrCreateAccess(folder);
    expect(access.remark).toContain('new token, new certificate');
    for (const secret of ['token', 'certificate', 'key', 'fingerprint'] as const)
      expect(access[secret]).not.toBe(before[secret]);
    expect(access.certificate).not.toBe(text);
    before = access;
  }
  await expect(loadOrCreateAccess(joinPath(other, 'token'))).rejects.toThrow(code('LT_RUN_FOREIGN'));
  await expect(loadOrCreateAccess(joinPath(other, 'token', 'x'))).rejects.toThrow(code('LT_CLUSTER_ACCESS'));
  const cert = joinPath(other, 'certificate.pem');
  await expect(loadOrCreateAccess(other, { cert })).rejects.toThrow(code('LT_CLUSTER_CERTIFICATE'));
});

test("the user's own certificate is used and stays where it is", async () => {
  const own = await loadOrCreateAccess(joinPath(folder, 'own'));
  const options = { cert: joinPath(folder, 'own', 'certificate.pem'), key: joinPath(folder, 'own', 'key.pem') };
  const access = await loadOrCreateAccess(joinPath(folder, 'run'), options);
  expect(access.fingerprint).toBe(own.fingerprint);
  expect((await readdir(joinPath(folder, 'run'))).sort()).toEqual(['admin-token', 'marks.json', 'token']);
  expect(await readFile(joinPath(folder, 'run', 'token'), 'utf8')).toBe(access.token);
});

test('a worker joins over TLS by the URL alone', async () => {
  const { url, server } = await secureServer(await loadOrCreateAccess(folder));
  expect(url).toMatch(/^wss:/);
  const connection = await join(url);
  expect(await answers(connection)).toBe(true);
  expect(server.connections.size).toBe(1);
});

test('with another fingerprint a worker sends nothing but the TLS handshake', async () => {
  const access = await loadOrCreateAccess(folder);
  let heard = 0;
  const server = createTlsServer({ cert: access.certificate, key: access.key }, (socket) => {
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      heard += chunk.length;
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  open.push(server);
  const { port } = server.address() as { port: number };
  const fingerprint = fingerprintOf(new Uint8Array(1));
  const url = formatJoinUrl({ secure: true, host: '127.0.0.1', port, token: access.token, fingerprint });
  await expect(join(url)).rejects.toThrow(code('LT_CLUSTER_FINGERPRINT'));
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(heard).toBe(0);
});

test('without a fingerprint, a certificate must be vouched for by an authority', async () => {
  const access = await loadOrCreateAccess(folder);
  const { server } = await secureServer(access);
  const url = formatJoinUrl({ secure: true, host: '127.0.0.1', port: server.port, token: access.token });
  await expect(join(url)).rejects.toThrow(code('LT_CLUSTER_URL'));
  expect(server.connections.size).toBe(0);
});

test('a wrong token is refused and never crosses the wire', async () => {
  const { url, server, token, refused } = await startServer();
  open.push(server);
  const recorded: Buffer[] = [];
  const relay = createTcpServer((from) => {
    const to = createConnection(server.port);
    from.on('data', (chunk) => recorded.push(chunk)).pipe(to);
    to.on('data', (chunk) => recorded.push(chunk)).pipe(from);
    from.on('error', () => to.destroy());
    to.on('error', () => from.destroy());
  }).listen(0, '127.0.0.1');
  await once(relay, 'listening');
  open.push(relay);
  const { port } = relay.address() as { port: number };
  const through = url.replace(/:\d+\//, `:${port}/`);
  const wrong = newToken();
  await expect(join(through, { token: wrong })).rejects.toThrow(code('LT_CLUSTER_TOKEN'));
  expect(refused.map((error) => error.code)).toEqual(['LT_CLUSTER_TOKEN']);
  const good = await join(through);
  expect(await answers(good)).toBe(true);
  good.close();
  const wire = Buffer.concat(recorded).toString('latin1');
  expect(wire).toContain('challenge');
  expect(wire).not.toContain(token);
  expect(wire).not.toContain(wrong);
});

test('a coordinator that does not know the token is found out before anything is sent to it', async () => {
  const [worker, coordinator] = channels();
  const secrets = { fingerprint: 'f', version: VERSION };
  const outcomes = await Promise.allSettled([
    workerHandshake(worker, { ...secrets, token: newToken() }),
    // A coordinator that accepts everybody.
    (async () => {
      await coordinator.receive();
      coordinator.send(
        encodeMessage({ type: 'challenge', protocol: PROTOCOL_VERSION, version: VERSION, nonce: new Uint8Array(32) }),
      );
      await coordinator.receive();
      coordinator.send(encodeMessage({ type: 'accepted', proof: new Uint8Array(32) }));
    })(),
  ]);
  expect(outcomes[0]).toMatchObject({ status: 'rejected', reason: { code: 'LT_CLUSTER_TOKEN' } });
});

test('a proof for one certificate is none for another, nor is its mirror image', async () => {
  const token = newToken();
  const run = async (mine: string, theirs: string) => {
    const [worker, coordinator] = channels();
    const outcomes = await Promise.allSettled([
      workerHandshake(worker, { token, version: VERSION, fingerprint: mine }),
      coordinatorHandshake(coordinator, { token, version: VERSION, fingerprint: theirs }).catch((error) => {
        coordinator.hangUp(error);
        throw error;
      }),
    ]);
    return outcomes.map(({ status }) => status);
  };
  expect(await run('a', 'a')).toEqual(['fulfilled', 'fulfilled']);
  expect(await run('a', 'b')).toEqual(['rejected', 'rejected']);
});

test('plain ws stays on loopback unless it is asked for by name', async () => {
  const options = { port: 0, token: newToken(), version: VERSION, onConnection: () => {} };
  await expect(ClusterServer.listen({ ...options, host: '0.0.0.0' })).rejects.toThrow(code('LT_CLUSTER_PLAIN'));
  const server = await ClusterServer.listen({ ...options, host: '0.0.0.0', allowPlain: true });
  open.push(server);
  await expect(join(`ws://192.0.2.1:${server.port}/#${newToken()}`)).rejects.toThrow(code('LT_CLUSTER_PLAIN'));
});

test('a port that is taken and a coordinator that is not there are named', async () => {
  const { server } = await startServer();
  open.push(server);
  const { port } = server;
  const options = { host: '127.0.0.1', token: newToken(), version: VERSION, onConnection: () => {} };
  await expect(ClusterServer.listen({ ...options, port })).rejects.toThrow(code('LT_CLUSTER_LISTEN'));
  await server.close();
  await expect(join(`ws://127.0.0.1:${port}/#${newToken()}`)).rejects.toThrow(code('LT_CLUSTER_CONNECT'));
});

test('discovery finds what is advertised, without a token, or finds nothing in peace', async () => {
  const fingerprint = fingerprintOf(new Uint8Array(2));
  const troubles: Error[] = [];
  const host = 'h\u001b[31m';
  const advertised = [7041, 7042].map((port) =>
    advertise({ host, run: 'tiny-1', port, fingerprint, version: '1.2.3' }, (e) => troubles.push(e)),
  );
  const all = await discover(2_000, (error) => troubles.push(error));
  const found = all.filter(({ url }) => url.port === 7041 || url.port === 7042);
  for (const one of advertised) await one.stop();
  if (found.length === 0) console.log('multicast does not come back on this machine:', troubles.map(String).join('; '));
  else
    expect(found.map(({ name }) => name).sort()).toEqual(
      [7041, 7042].map((port) => `lantrain on h_[31m (run tiny-1, port ${port})`),
    );
  for (const one of found) {
    expect(one.url).toMatchObject({ secure: true, fingerprint });
    expect(one.version).toBe('1.2.3');
    expect(one.url.token).toBeUndefined();
  }
});

test("coordinators' services have names of their own, one label of DNS each", () => {
  const one = { host: 'raspberrypi.local', run: 'tiny-1', port: 7070, fingerprint: 'a'.repeat(43) };
  const others = [{ port: 7071 }, { run: 'big' }, { fingerprint: 'b'.repeat(43) }].map((change) => ({
    ...one,
    ...change,
  }));
  const names = [one, ...others].map(serviceName);
  expect(new Set(names).size).toBe(4);
  expect(names[0]).toBe('lantrain on raspberrypi (run tiny-1, port 7070) aaaaaa');
  const long = serviceName({
    host: 'm'.repeat(200),
    run: `\u00fc.${'r'.repeat(200)}`,
    port: 65535,
    fingerprint: undefined,
  });
  expect(long.length).toBeLessThanOrEqual(63);
  expect(long).toMatch(/^[\x20-\x7e]+, port 65535\) no-TLS$/);
  expect(long).not.toContain('.');
  const read = readService({ name: names[0], port: 7070, addresses: ['10.0.0.1'], txt: {} });
  expect(read?.name).toBe('lantrain on raspberrypi (run tiny-1, port 7070)');
});

test('records that make no sense are left out', () => {
  const good = { name: 'a', port: 1, addresses: ['fe80::1', '10.0.0.1'], txt: { version: '1' } };
  expect(readService(good)?.url).toEqual({ secure: false, host: '10.0.0.1', port: 1 });
  for (const change of [
    { port: 0 },
    { port: '1' },
    { addresses: [] },
    { addresses: ['a b'] },
    { txt: { fingerprint: 'x' } },
  ])
    expect(readService({ ...good, ...change } as typeof good)).toBeUndefined();
});

type TestChannel = MessageChannel & { hangUp(error: Error): void };

/** Two ends of one connection. */
function channels(): [TestChannel, TestChannel] {
  const make = () => {
    const arrived: Uint8Array[] = [];
    let waiting: ((message: Uint8Array) => void) | undefined;
    let fail: ((error: Error) => void) | undefined;
    return {
      push: (message: Uint8Array) => {
        if (waiting === undefined) arrived.push(message);
        else waiting(message);
        waiting = undefined;
      },
      hangUp: (error: Error) => fail?.(error),
      receive: () =>
        new Promise<Uint8Array>((resolve, reject) => {
          const first = arrived.shift();
          if (first !== undefined) resolve(first);
          else [waiting, fail] = [resolve, reject];
        }),
    };
  };
  const [a, b] = [make(), make()];
  return [
    { send: b.push, receive: a.receive, hangUp: b.hangUp },
    { send: a.push, receive: b.receive, hangUp: a.hangUp },
  ];
}
