/** Attacks by strangers that reach the coordinator's port without a token, and by a page, which has it. */

import { once } from 'node:events';
import type { Socket } from 'node:net';
import { onlyFromCoordinator } from '../../../cluster/protocol/protocol.js';
import { encodeMessage } from '../../../cluster/transport/messages.js';
import { newToken } from '../../../src/net/access.js';
import { importToken, randomNonce, sign } from '../../../src/net/proof.js';
import {
  decodeServerMessage,
  fromHex,
  type PageMessage,
  type ServerMessage,
  toHex,
  WATCH_PATH,
  WATCH_VERSION,
  watchStatement,
} from '../../../src/watch/messages.js';
import type { Attack } from './admission.js';
import { type AttackContext, connectAs, flood, openSocket, openWebSocket, over, pause } from './attack-context.js';

const SOCKETS = 40;
/** Escape sequences that clear a screen, set a clipboard, and print a line at the cursor. */
const ESCAPES = '\u001b[2J\u001b]52;c;aGk=\u0007\u009b1A\rrun      forged\u202e';

/** Runs `once` in `loops` parallel loops. */
async function inLoops(context: AttackContext, loops: number, once: () => Promise<unknown>, restMs = 0): Promise<void> {
  context.tell({ told: 'begun' });
  const loop = async () => {
    while (!context.signal.aborted) {
      try {
        await once();
      } catch (error) {
        context.tell({ told: 'closed', code: codeOf(error) });
        await pause(20);
      }
      if (restMs > 0) await pause(restMs);
    }
  };
  await Promise.all(Array.from({ length: loops }, loop));
}

export function codeOf(error: unknown): string {
  const { code, message } = error as { readonly code?: string; readonly message?: string };
  return code ?? String(message).slice(0, 60);
}

const closed = (socket: Socket) => (socket.destroyed ? Promise.resolve() : once(socket, 'close'));

/** Sends a byte a second until the socket ends. */
async function drip({ signal }: AttackContext, socket: Socket, text: string | Uint8Array): Promise<void> {
  for (let i = 0; !signal.aborted && socket.writable; i++) {
    socket.write(Buffer.from([Buffer.from(text)[i % text.length]]));
    await pause(1_000);
  }
  await closed(socket);
}

const upgradeRequest = ({ target }: AttackContext, more = '') =>
  `GET / HTTP/1.1\r\nHost: ${target.host}:${target.port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
  `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n${more}\r\n`;

/** The HTTP status of the answer to raw bytes; 0 without an answer. */
async function statusOf(context: AttackContext, bytes: string): Promise<number> {
  const socket = await openSocket(context);
  socket.write(bytes);
  const [data] = await Promise.race([once(socket, 'data'), closed(socket), pause(3_000)]).then((d) => d ?? []);
  socket.destroy();
  return Number(/^HTTP\/1\.1 (\d+)/.exec(String(data))?.[1] ?? 0);
}

export const STRANGERS = {
  /** Opens WebSockets that never prove a token, and opens them again when they are closed. */
  'silent-sockets': (context) =>
    inLoops(context, SOCKETS, async () => {
      const { socket } = await openWebSocket(context);
      socket.resume();
      await closed(socket);
    }),

  /** Sends a byte a second: half of the sockets send an HTTP request, half a WebSocket message. */
  'slow-handshake': (context) => {
    let n = 0;
    return inLoops(context, 2 * SOCKETS, async () => {
      const socket = await openSocket(context);
      socket.resume();
      if (n++ % 2 === 0) return drip(context, socket, upgradeRequest(context, `X-Long: ${'x'.repeat(4000)}\r\n`));
      socket.write(upgradeRequest(context));
      // A masked binary message of 120 bytes, whose last byte does not come in time.
      return drip(context, socket, Buffer.concat([Buffer.from([0x82, 0xf8, 0, 0, 0, 0]), Buffer.alloc(120, 0x81)]));
    });
  },

  /** Endless TLS handshakes, or TCP connections without TLS. */
  'tls-flood': (context) => inLoops(context, 16, async () => (await openSocket(context)).destroy()),

  /** Sends pipelined HTTP requests and never reads the answers. */
  pipeline: (context) =>
    inLoops(context, 8, async () => {
      const socket = await openSocket(context);
      socket.pause();
      const request = `GET / HTTP/1.1\r\nHost: ${context.target.host}:${context.target.port}\r\n\r\n`;
      const many = request.repeat(64);
      await flood(context, socket, () => socket.write(many));
      await closed(socket);
    }),

  /** Handshakes with a wrong token in a loop. */
  'wrong-token': (context) =>
    inLoops(context, 4, async () => {
      const { socket } = await connectAs(context, newToken());
      socket.destroy();
    }),

  /** Requests for a page under a foreign name that resolves to the coordinator's address. */
  host: async (context) => {
    context.tell({ told: 'begun' });
    const { port, secure } = context.target;
    const name = `evil.example:${port}`;
    const origin = `Origin: ${secure ? 'https' : 'http'}://${name}\r\n`;
    const own = upgradeRequest(context, origin).replace(/Host: \S+/, `Host: ${name}`);
    const statuses = [
      await statusOf(context, `GET / HTTP/1.1\r\nHost: ${name}\r\nConnection: close\r\n\r\n`),
      await statusOf(context, own),
      await statusOf(context, own.replace('GET /', `GET ${WATCH_PATH}`)),
    ];
    context.tell({ told: 'answer', text: statuses.join(' ') });
    await over(context);
  },

  /** Sends control characters in everything that may be logged. */
  escapes: async (context) => {
    context.tell({ told: 'begun' });
    const quietly = (work: Promise<unknown>) => work.catch(() => {});
    await quietly(statusOf(context, `GET /${ESCAPES} HTTP/1.1\r\nHost: a${ESCAPES}\r\n\r\n`));
    await quietly(openWebSocket(context, { path: `/${encodeURIComponent(ESCAPES)}` }));
    for (const hello of [
      { type: 'hello', protocol: 99, version: ESCAPES, nonce: new Uint8Array(32) },
      { type: ESCAPES, protocol: 1, version: '' },
      { type: 'hello', protocol: 2, version: 'x', [ESCAPES]: 1 },
    ])
      await quietly(
        openWebSocket(context).then(async ({ ws, socket }) => {
          ws.send(encodeMessage(hello as never));
          await Promise.race([closed(socket), pause(1_000)]);
          socket.destroy();
        }),
      );
    for (const last of [
      { type: 'leave', reason: ESCAPES },
      { type: 'error', code: ESCAPES, message: ESCAPES },
      { type: 'refused', assignment: 1, microBatch: 0, what: ESCAPES },
    ] as const)
      await quietly(
        connectAs(context).then(async ({ connection, socket, ws }) => {
          connection.onControl = onlyFromCoordinator({ welcome: () => {}, probe: () => {} });
          connection.send({ type: 'join', name: `x${ESCAPES}`, adapter: ESCAPES });
          connection.send({ type: 'probed', probe: 'reference', hash: '0'.repeat(64) });
          connection.send({ type: 'probed', probe: 'run', hash: '0'.repeat(64) });
          ws.send(encodeMessage(last as never));
          await Promise.race([closed(socket), pause(500)]);
          socket.destroy();
        }),
      );
    await over(context);
  },

  /** Upgrades to WebSockets in loops, and drops each at once. */
  'upgrade-flood': (context) => inLoops(context, 20, async () => (await openWebSocket(context)).socket.destroy()),

  /** A page that requests the whole history again and again, and never reads. */
  history: async (context) => {
    const { ws, socket } = await openWebSocket(context, { path: WATCH_PATH });
    const say = (message: PageMessage) => ws.send(JSON.stringify(message));
    const next = async <T extends ServerMessage['type']>(type: T) => {
      for (;;) {
        const [data] = (await Promise.race([once(ws, 'message'), once(ws, 'close').then(() => [])])) as [unknown?];
        if (data === undefined) throw new Error('the page was refused');
        const message = decodeServerMessage(String(data));
        if (message?.type === type) return message as Extract<ServerMessage, { type: T }>;
      }
    };
    const nonce = randomNonce();
    const challenge = next('challenge');
    say({ type: 'hello', version: WATCH_VERSION, nonce: toHex(nonce), admin: false });
    const theirs = fromHex((await challenge).nonce);
    const fingerprint = context.target.fingerprint ?? '';
    const proof = await sign(
      await importToken(context.target.token),
      watchStatement('watcher', nonce, theirs, fingerprint),
    );
    const accepted = next('accepted');
    say({ type: 'proof', proof: toHex(proof) });
    await accepted;
    context.tell({ told: 'begun' });
    ws.pause();
    let id = 1;
    await flood(context, socket, () => say({ type: 'range', id: id++, from: 0, to: 2 ** 31, points: 4000 }));
    if (!context.signal.aborted) throw new Error('hung up');
  },
} as const satisfies Record<string, Attack>;
