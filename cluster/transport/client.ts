import { isIP, connect as netConnect, type Socket } from 'node:net';
import { connect as tlsConnect } from 'node:tls';
import { WebSocket } from 'ws';
import { isErrorCode, LantrainError } from '../../src/errors.js';
import { fingerprintOf } from '../access.js';
import type { JoinUrl } from '../join-url.js';
import type { WorkerConnection } from './connection.js';
import { enter } from './enter.js';
import { DEFAULT_LIMITS, type Limits } from './limits.js';
import { checkPlain } from './loopback.js';
import { NodeWire } from './node-wire.js';

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
 * Throws LT_CLUSTER_PLAIN, LT_CLUSTER_CONNECT, LT_CLUSTER_FINGERPRINT, LT_CLUSTER_TOKEN, LT_CLUSTER_VERSION,
 * LT_CLUSTER_LIMIT or LT_CLUSTER_TIMEOUT.
 */
export async function connect(url: JoinUrl, options: ConnectOptions): Promise<WorkerConnection> {
  const { secure, host, port } = url;
  const limits = { ...DEFAULT_LIMITS, ...options.limits };
  if (!secure) checkPlain(host, options.allowPlain ?? false);
  const { socket, fingerprint } = await openSocket(url, limits.handshakeMs);
  const ws = await upgrade(socket, host, port, limits);
  const { token, version } = options;
  return enter(new NodeWire(ws, socket), { token, version, fingerprint }, limits);
}

interface OpenSocket {
  readonly socket: Socket;
  /** Of the certificate that the server showed; empty without TLS. */
  readonly fingerprint: string;
}

/** A socket that is connected and, with TLS, known to end at the right certificate. */
async function openSocket(url: JoinUrl, timeoutMs: number): Promise<OpenSocket> {
  const { host, port, fingerprint } = url;
  const where = `${host}:${port}`;
  if (!url.secure) {
    const socket = netConnect({ host, port });
    await connected(socket, 'connect', where, timeoutMs);
    return { socket, fingerprint: '' };
  }
  const socket = tlsConnect({
    host,
    port,
    // A name for the server to choose a certificate by; addresses are not allowed there (RFC 6066, section 3).
    ...(isIP(host) ? {} : { servername: host }),
    rejectUnauthorized: fingerprint === undefined,
    minVersion: 'TLSv1.3',
  });
  await connected(socket, 'secureConnect', where, timeoutMs);
  const found = fingerprintOf(socket.getPeerCertificate().raw);
  if (fingerprint === undefined || found === fingerprint) return { socket, fingerprint: found };
  socket.destroy();
  throw new LantrainError(
    'LT_CLUSTER_FINGERPRINT',
    `${where} showed a certificate with fingerprint ${found}, the join URL asks for ${fingerprint}; nothing was sent. ` +
      'Take a fresh URL from the coordinator; if it is the right one, somebody is between you and it',
  );
}

function connected(socket: Socket, event: string, where: string, timeoutMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (why: string, cause?: Error) => {
      detach();
      socket.on('error', () => {});
      socket.destroy();
      const message = `cannot reach a coordinator at ${where} (${why}); is it running, and the port open?`;
      reject(new LantrainError('LT_CLUSTER_CONNECT', message, { cause }));
    };
    const onError = (error: NodeJS.ErrnoException) => fail(error.code ?? error.message, error);
    const onClose = () => fail('it hung up');
    const onConnect = () => {
      detach();
      resolve();
    };
    const timer = setTimeout(() => fail('no answer'), timeoutMs);
    const detach = () => {
      clearTimeout(timer);
      socket.off('error', onError).off('close', onClose).off(event, onConnect);
    };
    socket.on('error', onError).on('close', onClose).on(event, onConnect);
  });
}

function upgrade(socket: Socket, host: string, port: number, limits: Limits): Promise<WebSocket> {
  const name = `${isIP(host) === 6 ? `[${host}]` : host}:${port}`;
  // The socket is encrypted already where it has to be.
  const ws = new WebSocket(`ws://${name}/`, {
    createConnection: () => socket,
    perMessageDeflate: false,
    generateMask: noMask,
    maxPayload: limits.messageBytes,
    handshakeTimeout: limits.handshakeMs,
    followRedirects: false,
  });
  return new Promise((resolve, reject) => {
    const fail = (error: LantrainError) => {
      ws.removeAllListeners();
      ws.on('error', () => {});
      ws.terminate();
      socket.destroy();
      reject(error);
    };
    ws.once('open', () => {
      ws.removeAllListeners();
      resolve(ws);
    });
    ws.once('error', (cause) =>
      fail(new LantrainError('LT_CLUSTER_CONNECT', `${name} broke off: ${cause.message}`, { cause })),
    );
    ws.once('unexpected-response', (_, response) => {
      const code = String(response.headers['x-lantrain'] ?? '');
      const why = `${name} refused the connection (${response.statusCode} ${response.statusMessage})`;
      fail(new LantrainError(isErrorCode(code) ? code : 'LT_CLUSTER_CONNECT', why));
    });
  });
}
