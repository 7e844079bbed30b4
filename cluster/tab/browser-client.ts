import { LantrainError } from '../../src/errors.js';
import { authorityOf, type JoinUrl } from '../../src/net/join-url.js';
import { connectWorker } from '../transport/connect-worker.js';
import type { WorkerConnection } from '../transport/connection.js';
import { DEFAULT_LIMITS, type Limits } from '../transport/limits.js';
import { BrowserWire } from './browser-wire.js';

/**
 * Connects a worker in a tab to the coordinator that serves the page. A browser shows no certificate to a script, so
 * both sides sign the fingerprint from the link.
 *
 * Throws LT_CLUSTER_URL, LT_CLUSTER_CONNECT, LT_CLUSTER_TOKEN, LT_CLUSTER_VERSION, LT_CLUSTER_LIMIT or
 * LT_CLUSTER_TIMEOUT.
 */
export async function connectFromBrowser(
  url: JoinUrl,
  version: string,
  more: Partial<Limits> = {},
): Promise<WorkerConnection> {
  const { secure, host, port, token, fingerprint } = url;
  if (token === undefined || (secure && fingerprint === undefined))
    throw new LantrainError('LT_CLUSTER_URL', 'the link is cut off: open all of it, with what follows #');
  const limits = { ...DEFAULT_LIMITS, ...more };
  const where = authorityOf(host, port);
  const ws = await openWebSocket(`${secure ? 'wss' : 'ws'}://${where}/`, where, limits.handshakeMs);
  const wire = new BrowserWire(ws, where, limits.messageBytes);
  const secrets = { token, version, fingerprint: fingerprint ?? '' };
  return connectWorker(wire, secrets, limits, { pingsByMessage: true });
}

function openWebSocket(url: string, where: string, timeoutMs: number): Promise<WebSocket> {
  return new Promise((resolve, reject) => {
    const ws = new WebSocket(url);
    ws.binaryType = 'arraybuffer';
    const fail = () => {
      clearTimeout(timer);
      ws.onopen = null;
      ws.onclose = null;
      ws.close();
      reject(
        new LantrainError(
          'LT_CLUSTER_CONNECT',
          `cannot reach the coordinator at ${where}; is it running, or is it full?`,
        ),
      );
    };
    const timer = setTimeout(fail, timeoutMs);
    ws.onclose = fail;
    ws.onopen = () => {
      clearTimeout(timer);
      resolve(ws);
    };
  });
}
