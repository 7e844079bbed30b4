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

/** A mask of zeros does not change the bytes, and `ws` then skips masking. TLS protects better than masks. */
const noMask = (mask: Buffer): void => {
  mask.fill(0);
};

/**
 * Connects a worker. Only the TLS handshake is sent before the certificate has the URL's fingerprint. Only a proof of
 * the token is sent before the coordinator has proved that it knows the token too. Messages wait until `onControl` is
 * set.
 *
 * Throws LT_CLUSTER_CONNECT, LT_CLUSTER_LIMIT or LT_CLUSTER_TIMEOUT, for which a retry may help. Throws LT_CLUSTER_URL,
 * LT_CLUSTER_PLAIN, LT_CLUSTER_FINGERPRINT, LT_CLUSTER_TOKEN, LT_CLUSTER_VERSION or LT_CLUSTER_FOREIGN, for which it
 * does not.
 */
export async function connect(url: JoinUrl, options: ConnectOptions): Promise<WorkerConnection> {
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  if (!url.secure) checkPlain(url.host, options.allowPlain ?? false);
  const { socket, fingerprint } = await openSocket(url, limits.handshakeMs);
  const ws = await upgrade(socket, url, limits);
  const { token, version } = options;
  try {
    const connecting = connectWorker(new NodeWire(ws, socket), { token, version, fingerprint }, limits);
    // Paused by `upgrade` until a listener was there.
    ws.resume();
    return await connecting;
  } catch (error) {
    throw withAdvice(error, url);
  }
}

interface OpenSocket {
  readonly socket: Socket;
  /** Fingerprint of the server's certificate; empty without TLS. */
  readonly fingerprint: string;
}

/** Opens a socket. With TLS, checks the server's certificate. */
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
    // The name by which the server chooses a certificate; addresses are not allowed (RFC 6066, section 3).
    ...(isIP(host) ? {} : { servername: host }),
    // Checked below, by the fingerprint if the URL has one.
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

/** Outcome of a request for a WebSocket: open, another answer, or an error. */
type Upgrade =
  | { readonly open: WebSocket }
  | { readonly status: number; readonly statusText: string; readonly code: string }
  | { readonly broke: Error & { readonly code?: string } };

async function upgrade(socket: Socket, url: JoinUrl, limits: Limits): Promise<WebSocket> {
  // The zone of an address is meaningful only on this machine. `ws://`, because the socket is already encrypted if
  // required.
  const ws = new WebSocket(`ws://${authorityOf(url.host.replace(/%.*/, ''), url.port)}/`, {
    createConnection: () => socket,
    perMessageDeflate: false,
    generateMask: noMask,
    maxPayload: limits.messageBytes,
    followRedirects: false,
  });
  const outcome = await new Promise<Upgrade>((resolve) => {
    // `handshakeTimeout` of `ws` does not work for a socket that is already connected.
    const late = Object.assign(new Error('no answer'), { code: 'ETIMEDOUT' });
    const timer = setTimeout(() => resolve({ broke: late }), limits.handshakeMs);
    const end = (outcome: Upgrade) => {
      clearTimeout(timer);
      resolve(outcome);
    };
    ws.once('open', () => {
      // Bytes after the answer wait until there is a listener.
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
