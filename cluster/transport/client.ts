import { isIP, connect as netConnect, type Socket } from 'node:net';
import { connect as tlsConnect } from 'node:tls';
import { WebSocket } from 'ws';
import { isErrorCode, LantrainError } from '../../src/errors.js';
import { fingerprintOf } from '../../src/net/access.js';
import { authorityOf, type JoinUrl } from '../../src/net/join-url.js';
import { checkPlain } from '../../src/net/loopback.js';
import { connectWorker } from './connect-worker.js';
import type { WorkerConnection } from './connection.js';
import { DEFAULT_LIMITS, type Limits } from './limits.js';
import { NodeWire } from './node-wire.js';
import {
  brokeOff,
  isProtocolError,
  refusal,
  strangerAt,
  systemTrouble,
  unreachable,
  webServer,
  withAdvice,
} from './trouble.js';

export interface ConnectOptions {
  readonly token: string;
  /** lantrain's version. */
  readonly version: string;
  readonly allowPlain?: boolean;
  readonly limits?: Partial<Limits>;
}

/** A mask of zeros leaves the bytes alone, and `ws` then skips masking; TLS does what masks were meant for. */
const noMask = (mask: Buffer): void => {
  mask.fill(0);
};

/**
 * Connects a worker. Nothing but the TLS handshake is sent before the certificate's fingerprint is the URL's, and
 * nothing but a proof of the token before the coordinator has proved that it knows it too. The connection's messages
 * wait until `onControl` is set.
 *
 * Throws LT_CLUSTER_CONNECT, LT_CLUSTER_LIMIT or LT_CLUSTER_TIMEOUT, which may pass; LT_CLUSTER_URL, LT_CLUSTER_PLAIN,
 * LT_CLUSTER_FINGERPRINT, LT_CLUSTER_TOKEN, LT_CLUSTER_VERSION or LT_CLUSTER_FOREIGN, which do not.
 */
export async function connect(url: JoinUrl, options: ConnectOptions): Promise<WorkerConnection> {
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  if (!url.secure) checkPlain(url.host, options.allowPlain ?? false);
  const { socket, fingerprint } = await openSocket(url, limits.handshakeMs);
  const ws = await upgrade(socket, url, limits);
  const { token, version } = options;
  try {
    const connecting = connectWorker(new NodeWire(ws, socket), { token, version, fingerprint }, limits);
    // Somebody listens now.
    ws.resume();
    return await connecting;
  } catch (error) {
    throw withAdvice(error, url);
  }
}

interface OpenSocket {
  readonly socket: Socket;
  /** Of the certificate that the server showed; empty without TLS. */
  readonly fingerprint: string;
}

/** A socket that is connected and, with TLS, known to end at the right certificate. */
async function openSocket(url: JoinUrl, timeoutMs: number): Promise<OpenSocket> {
  const { host, port, fingerprint } = url;
  if (!url.secure) {
    const socket = netConnect({ host, port });
    await connected(socket, 'connect', url, timeoutMs);
    return { socket, fingerprint: '' };
  }
  const socket = tlsConnect({
    host,
    port,
    // A name for the server to choose a certificate by; addresses are not allowed there (RFC 6066, section 3).
    ...(isIP(host) ? {} : { servername: host }),
    // Checked below, by the fingerprint if there is one.
    rejectUnauthorized: false,
    minVersion: 'TLSv1.3',
  });
  await connected(socket, 'secureConnect', url, timeoutMs);
  const found = fingerprintOf(socket.getPeerCertificate().raw);
  if (fingerprint === undefined ? socket.authorized : found === fingerprint) return { socket, fingerprint: found };
  socket.destroy();
  const where = authorityOf(host, port);
  if (fingerprint === undefined)
    throw new LantrainError(
      'LT_CLUSTER_URL',
      `the join URL ends before the fingerprint (a double click copies a part of it), and no authority vouches for the ` +
        `certificate of ${where} (${socket.authorizationError}); copy all of it: wss://host:port/#.FINGERPRINT`,
    );
  throw new LantrainError(
    'LT_CLUSTER_FINGERPRINT',
    `${where} showed a certificate with fingerprint ${found}, the join URL asks for ${fingerprint}: a proxy that ends ` +
      'TLS, another coordinator or server on that port, or an old URL; nothing was sent. Take the URL that the ' +
      'coordinator prints now',
  );
}

async function connected(socket: Socket, event: string, url: JoinUrl, timeoutMs: number): Promise<void> {
  const failure = await new Promise<Error | 'it hung up' | 'no answer' | undefined>((resolve) => {
    const end = (why?: Error | 'it hung up' | 'no answer') => {
      clearTimeout(timer);
      socket.off('error', end).off('close', onClose).off(event, onConnect);
      resolve(why);
    };
    const onClose = () => end('it hung up');
    const onConnect = () => end();
    const timer = setTimeout(() => end('no answer'), timeoutMs);
    socket.on('error', end).on('close', onClose).on(event, onConnect);
  });
  if (failure === undefined) return;
  socket.on('error', () => {});
  socket.destroy();
  if (typeof failure === 'string') throw unreachable(url, failure);
  throw isProtocolError(failure) ? await strangerAt(url) : systemTrouble(url, failure);
}

/** What became of a request for a WebSocket: open, answered otherwise, or neither. */
type Upgrade =
  | { readonly open: WebSocket }
  | { readonly status: number; readonly statusText: string; readonly code: string }
  | { readonly broke: Error & { readonly code?: string } };

async function upgrade(socket: Socket, url: JoinUrl, limits: Limits): Promise<WebSocket> {
  // A zone means something on this machine only. The socket is encrypted already where it has to be.
  const ws = new WebSocket(`ws://${authorityOf(url.host.replace(/%.*/, ''), url.port)}/`, {
    createConnection: () => socket,
    perMessageDeflate: false,
    generateMask: noMask,
    maxPayload: limits.messageBytes,
    followRedirects: false,
  });
  const outcome = await new Promise<Upgrade>((resolve) => {
    // `handshakeTimeout` of `ws` does not see a socket that was connected before.
    const late = Object.assign(new Error('no answer'), { code: 'ETIMEDOUT' });
    const timer = setTimeout(() => resolve({ broke: late }), limits.handshakeMs);
    const end = (outcome: Upgrade) => {
      clearTimeout(timer);
      resolve(outcome);
    };
    ws.once('open', () => {
      // What comes with the answer waits until somebody listens.
      ws.pause();
      end({ open: ws });
    });
    ws.once('error', (broke) => end({ broke }));
    ws.once('unexpected-response', (_, { statusCode = 0, statusMessage = '', headers }) =>
      end({ status: statusCode, statusText: statusMessage, code: String(headers['x-lantrain'] ?? '') }),
    );
  });
  ws.removeAllListeners();
  if ('open' in outcome) return ws;
  ws.on('error', () => {});
  ws.terminate();
  socket.destroy();
  if ('broke' in outcome) throw await brokeOff(url, outcome.broke);
  const { status, statusText, code } = outcome;
  throw isErrorCode(code) ? refusal(url, code, status) : await webServer(url, status, statusText);
}
