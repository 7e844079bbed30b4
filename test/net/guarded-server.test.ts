import { request } from 'node:http';
import type { Socket } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import type { LantrainError } from '../../src/errors.js';
import { GuardedServer, type UpgradeHandler } from '../../src/net/guarded-server.js';

let server: GuardedServer | undefined;
afterEach(() => server?.close('the test is over'));

/** A handler that keeps the sockets of `paths` and records its calls. */
class Taker implements UpgradeHandler {
  readonly paths: (string | undefined)[] = [];
  readonly sockets: Socket[] = [];
  reason: string | undefined;

  upgrade({ url }: { readonly url?: string }, socket: Socket): void {
    this.paths.push(url);
    this.sockets.push(socket);
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
  }

  close(reason: string): void {
    this.reason = reason;
    for (const socket of this.sockets) socket.destroy();
  }
}

async function serve() {
  const [page, workers] = [new Taker(), new Taker()];
  const refused: LantrainError[] = [];
  server = await GuardedServer.listen({
    host: '127.0.0.1',
    port: 0,
    names: [],
    onRequest: (_, response) => response.end('plain'),
    upgrades: new Map([
      ['/watch', page],
      ['/', workers],
    ]),
    onRefused: (error) => refused.push(error),
  });
  return { server, page, workers, refused };
}

/** The status of the answer to a request for a WebSocket. */
function upgradeStatus(port: number, path: string, headers: Readonly<Record<string, string>> = {}): Promise<number> {
  return new Promise((resolve, reject) => {
    const asked = request({ port, path, headers: { Connection: 'Upgrade', Upgrade: 'websocket', ...headers } });
    asked.on('upgrade', ({ statusCode = 0 }, socket) => {
      socket.on('error', () => {});
      resolve(statusCode);
    });
    asked.on('response', ({ statusCode = 0 }) => resolve(statusCode));
    asked.on('error', reject);
    asked.end();
  });
}

test('a request for a WebSocket goes to the handler of its path, and to none at another path', async () => {
  const { server, page, workers, refused } = await serve();
  expect(await upgradeStatus(server.port, '/watch')).toBe(101);
  expect(await upgradeStatus(server.port, '/')).toBe(101);
  expect(await upgradeStatus(server.port, '/watch/more')).toBe(404);
  expect([page.paths, workers.paths]).toEqual([['/watch'], ['/']]);
  expect(refused.map(({ code }) => code)).toEqual(['LT_CLUSTER_URL']);
});

test('a page of another origin and a foreign host reach no handler', async () => {
  const { server, page, workers, refused } = await serve();
  expect(await upgradeStatus(server.port, '/watch', { Origin: 'https://elsewhere.example' })).toBe(403);
  expect(await upgradeStatus(server.port, '/', { Host: 'elsewhere.example' })).toBe(421);
  expect([...page.paths, ...workers.paths]).toEqual([]);
  expect(refused).toHaveLength(2);
});

test('the end of the server is told to every handler, and frees the port', async () => {
  const { server, page, workers } = await serve();
  const { port } = server;
  await upgradeStatus(port, '/');
  await server.close('done');
  expect([page.reason, workers.reason]).toEqual(['done', 'done']);
  await expect(upgradeStatus(port, '/')).rejects.toThrow('ECONNREFUSED');
});
