import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { lastStart } from '../../cluster/cluster-backend.js';
import type { Discovered } from '../../cluster/transport/discovery.js';
import { DEFAULT_PORT, listenOn, portsFor } from '../../cluster/transport/listen-port.js';
import { pageAddress, shownAddress } from '../../cluster/transport/shown-address.js';
import { onlyOne, shown } from '../../cluster/work.js';
import { foundLines } from '../../src/cli/commands/worker.js';
import { joinLines } from '../../src/cli/joining.js';
import { watchLines } from '../../src/cli/watch.js';
import { newToken, savePort } from '../../src/net/access.js';
import { formatJoinUrl, type JoinUrl, parseJoinUrl } from '../../src/net/join-url.js';
import { listening } from '../../src/net/listening.js';
import { checkPlain } from '../../src/net/loopback.js';
import { listenAddress } from '../../src/node/lan-address.js';
import type { Reachable } from '../../src/node/reachable.js';

const code = (name: string) => expect.objectContaining({ code: name });
const at = (...addresses: string[]): Reachable[] =>
  addresses.map((address, i) => ({ address, interface: i === 0 ? 'eth0' : `if${i}` }));
const FINGERPRINT = 'f'.repeat(43);

test.each([
  ['0.0.0.0:7070', '0.0.0.0', 7070],
  ['127.0.0.1:0', '127.0.0.1', 0],
  ['my-host:7070', 'my-host', 7070],
  ['[::1]:0', '::1', 0],
  ['[0:0:0:0:0:0:0:1]:0', '::1', 0],
  ['[::]:7070', '::', 7070],
  ['[FE80::1%eth0]:0', 'fe80::1%eth0', 0],
  ['[fe80::1%25eth0]:0', 'fe80::1%eth0', 0],
])('--listen %s is read as its host and port', (text, host, port) => {
  expect(listenAddress(text)).toEqual([host, port]);
});

test.each([
  ['::1:7070', /brackets/],
  ['fe80::1%eth0:7070', /brackets/],
  ['[127.0.0.1]:7070', /no IPv6 address/],
  ['7070', /HOST:PORT/],
  ['127.0.0.1', /HOST:PORT/],
  ['127.0.0.1:70000', /HOST:PORT/],
])('--listen %s is refused, and named as what it is', (text, message) => {
  expect(() => listenAddress(text)).toThrow(message);
  expect(() => listenAddress(text)).toThrow(code('LT_USAGE_OPTION'));
});

test('the likeliest address is printed, the others in one line below it', () => {
  expect(shownAddress('192.168.1.20', at('10.0.0.1'))).toEqual({ host: '192.168.1.20' });
  expect(shownAddress('0.0.0.0', at('192.168.1.20'))).toEqual({ host: '192.168.1.20' });
  const { host, remark } = shownAddress('::', at('192.168.1.20', '10.8.0.2', 'fd00::2'));
  expect(host).toBe('192.168.1.20');
  expect(remark).toBe(
    'also     reachable at 10.8.0.2 (if1), [fd00::2] (if2): for the URL, where 192.168.1.20 is not reached',
  );
  const many = shownAddress('::', at('192.168.1.20', ...Array.from({ length: 20 }, (_, i) => `172.17.${i}.1`)));
  expect(many.remark).toMatch(/\(if6\) and 14 more:/);
  expect(shownAddress('::', [])).toMatchObject({
    host: '127.0.0.1',
    remark: expect.stringMatching(/none but loopback/),
  });
  expect(shownAddress('0.0.0.0', []).remark).toMatch(/no IPv4.*\[::\]/);
  expect(shownAddress('::', at('fe80::1%eth0'))).toMatchObject({
    host: 'fe80::1%eth0',
    remark: expect.stringMatching(/link-local.*eth0/),
  });
});

test('the printed command can be pasted elsewhere: brackets are quoted where a shell wants it, and plain ws says so', () => {
  const token = newToken();
  const url = (host: string, secure = true): JoinUrl => ({ secure, host, port: 7070, token });
  const four = formatJoinUrl({ ...url('192.168.1.20'), fingerprint: FINGERPRINT });
  const [line, ...more] = joinLines(four, '192.168.1.20', false);
  expect(more).toEqual([]);
  expect(line).toMatch(/^join {5}.*LANTRAIN_TOKEN=/);
  expect(line.endsWith(`npm run -s lantrain -- worker wss://192.168.1.20:7070/#.${FINGERPRINT}`)).toBe(true);
  // Not in an argument, because all users of a machine see those.
  expect(line.indexOf(token)).toBeLessThan(line.indexOf('npm'));
  expect(line.lastIndexOf(token)).toBe(line.indexOf(token));
  const whole = { ...url('fe80::1%eth0'), fingerprint: FINGERPRINT };
  const six = formatJoinUrl({ ...whole, token: undefined });
  const [bare, zsh] = joinLines(formatJoinUrl(whole), 'fe80::1%eth0', false);
  expect(bare.endsWith(` worker ${six}`)).toBe(true);
  const quoted = process.platform === 'win32' ? `"${six}"` : `'${six}'`;
  expect(zsh.startsWith('in zsh   ') && zsh.endsWith(` worker ${quoted}`)).toBe(true);
  for (const pasted of [six, quoted, `<${six}>`, ` ${six}\n`]) expect(parseJoinUrl(pasted).host).toBe('fe80::1%eth0');
  // Another machine has lantrain in another folder.
  expect(bare).not.toContain('/dist/');
  const plain = formatJoinUrl(url('192.168.1.20', false));
  expect(joinLines(plain, '192.168.1.20', true)).toEqual([expect.stringMatching(/ worker ws:\/\/\S+:7070\/ --plain$/)]);
  expect(joinLines(plain, '127.0.0.1', true)[0]).not.toContain('--plain');
  expect(() => checkPlain('192.168.1.20', false)).toThrow(/on both sides, --plain$/);
});

test('the admin link goes to a terminal only; elsewhere the file of its token is named', () => {
  const secrets = { token: newToken(), fingerprint: FINGERPRINT, admin: newToken() };
  const linesOf = (isPrivate: boolean) => {
    const address = 'https://127.0.0.1:1/';
    const adminFile = 'runs/x/cluster/admin-token';
    const readers = { isPrivate, isTerminal: true };
    return watchLines({ event: 'watch', host: '127.0.0.1', address, secrets, adminFile }, readers);
  };
  const link = `https://127.0.0.1:1/#${secrets.token}.${FINGERPRINT}`;
  expect(linesOf(true)).toEqual([`watch    ${link}`, `admin    ${link}.${secrets.admin}`]);
  expect(linesOf(false)).toEqual([
    `watch    ${link}`,
    `admin    ${link}.ADMIN with what is in runs/x/cluster/admin-token for ADMIN`,
  ]);
});

const SECRETS = { token: newToken(), fingerprint: FINGERPRINT, admin: newToken() };
const linesAt = (host: string, isSecure: boolean, isTerminal: boolean) => {
  const address = pageAddress(host, 7070, isSecure);
  return watchLines(
    { event: 'watch', host, address, secrets: SECRETS, adminFile: 'file' },
    { isPrivate: false, isTerminal },
  );
};

test('other machines get the link as a QR code too where there is a terminal, below the lines', () => {
  const [watch, admin, ...code] = linesAt('192.168.1.20', true, true);
  expect([watch, admin]).toEqual(linesAt('192.168.1.20', true, false));
  expect(code.length).toBeGreaterThan(15);
  for (const line of code) expect(line).toMatch(/^[ █▀▄]+$/);
});

test('a browser is given no address that it cannot open', () => {
  expect(linesAt('::1', false, true).map((line) => line.split('#')[0])).toEqual([
    'watch    http://[::1]:7070/',
    'admin    http://[::1]:7070/',
  ]);
  expect(linesAt('fe80::1%eth0', true, true)).toEqual([
    expect.stringMatching(/^watch .*browsers.*fe80::1%eth0.*\[::\]:PORT/),
  ]);
});

const servers: Server[] = [];
afterEach(async () => {
  for (const server of servers.splice(0)) await new Promise((closed) => server.close(closed));
});

async function listen(port: number): Promise<number> {
  const server = createServer();
  await listening(server, '127.0.0.1', port);
  servers.push(server);
  return (server.address() as AddressInfo).port;
}

test('the default port is 7070 or the next free one; what was asked for or known to workers is kept to', async () => {
  expect(DEFAULT_PORT).toBe(7070);
  expect(portsFor(undefined, undefined).ports.slice(0, 3)).toEqual([7070, 7071, 7072]);
  expect(portsFor(8000, 7041)).toEqual({ ports: [8000], isKept: false });
  expect(portsFor(0, undefined)).toEqual({ ports: [0], isKept: false });
  for (const asked of [0, undefined]) expect(portsFor(asked, 7041)).toEqual({ ports: [7041], isKept: true });

  const taken = await listen(0);
  const free = await listen(0);
  await new Promise((closed) => servers.pop()?.close(closed));
  expect(await listenOn('127.0.0.1', { ports: [taken, free], isKept: false }, listen)).toBe(free);
  const listenAt = (ports: number[], isKept: boolean) => listenOn('127.0.0.1', { ports, isKept }, listen);
  await expect(listenAt([taken], false)).rejects.toThrow(/EADDRINUSE: another program.*--listen/);
  await expect(listenAt([taken, free], false)).rejects.toThrow(/are all taken.*--listen/);
  await expect(listenAt([taken], true)).rejects.toThrow(/workers know.*another program's.*--listen/);
  await expect(listenAt([taken], true)).rejects.toThrow(code('LT_CLUSTER_LISTEN'));
  const elsewhere = (port: number) => listening(createServer(), '192.0.2.1', port);
  await expect(listenOn('192.0.2.1', portsFor(undefined, undefined), elsewhere)).rejects.toThrow(
    /192\.0\.2\.1:7070.*no interface/,
  );
});

test('a run that goes on keeps the port of its last coordinator; a new one takes none of another that was faster', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'lantrain-joining-'));
  try {
    mkdirSync(join(folder, 'cluster'));
    await savePort(join(folder, 'cluster'), 7041);
    writeFileSync(join(folder, 'cluster', 'incarnation'), '3\n');
    expect(await lastStart(folder, true)).toEqual({ incarnation: 3, port: 7041 });
    expect(await lastStart(folder, false)).toEqual({ incarnation: 0, port: undefined });
    expect(await lastStart(join(folder, 'nowhere'), true)).toEqual({ incarnation: 0, port: undefined });
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('several coordinators on the network get a command each, without a token, and how to give it', () => {
  const url = (host: string): JoinUrl => ({ secure: true, host, port: 7070, fingerprint: FINGERPRINT });
  const found: Discovered[] = [
    { name: 'lantrain on a (run x, port 7070)', version: '1', url: url('192.168.1.20') },
    {
      name: 'lantrain on b (run y, port 7070)',
      version: '1',
      url: { secure: false, host: '192.168.1.21', port: 7070 },
    },
  ];
  const lines = foundLines(found.map(shown), false);
  const text = lines.join('\n');
  for (const { name } of found) expect(text).toContain(name);
  const command = / worker (\S+)$/.exec(lines[1])?.[1] ?? '';
  expect(parseJoinUrl(command)).toEqual(found[0].url);
  expect(lines[3]).toMatch(/ worker ws:\/\/192\.168\.1\.21:7070\/ --plain$/);
  expect(() => onlyOne(found)).toThrow(/LANTRAIN_TOKEN.*standard input/);
  expect(() => onlyOne(found)).toThrow(code('LT_CLUSTER_CONNECT'));
  expect(onlyOne(found.slice(0, 1))).toEqual(found[0].url);
  expect(foundLines(found.slice(0, 1).map(shown), false)).toEqual([`found    ${found[0].name} at 192.168.1.20:7070`]);
  expect(() => onlyOne([])).toThrow(/ worker URL/);
  // Anybody on the network can announce coordinators.
  const flood = Array.from({ length: 1000 }, (_, i) => shown({ ...found[0], name: `lantrain ${i}` }));
  const few = foundLines(flood, false);
  expect(few.length).toBe(33);
  expect(few.at(-1)).toMatch(/ and 984 more$/);
});
