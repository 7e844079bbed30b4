import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { type ErrorCode, LantrainError } from '../errors.js';
import { authorityOf } from './join-url.js';

/** Why a request does not become a WebSocket. */
export interface UpgradeRefusal {
  readonly status: string;
  readonly error: LantrainError;
}

export function upgradeRefusal(status: string, code: ErrorCode, why: string): UpgradeRefusal {
  return { status, error: new LantrainError(code, `a connection was refused: ${why}`) };
}

/** A refusal for a page of another origin. Browsers always send a page's origin; other programs need not. */
export function foreignOrigin({ headers }: IncomingMessage, secure: boolean): UpgradeRefusal | undefined {
  const { origin, host } = headers;
  const own = `${secure ? 'https' : 'http'}://${host}`;
  if (origin === undefined || origin.toLowerCase() === own.toLowerCase()) return undefined;
  return upgradeRefusal('403 Forbidden', 'LT_CLUSTER_URL', 'a page of another origin asked for it');
}

export function refuseUpgrade(socket: Socket, { status, error }: UpgradeRefusal): void {
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nX-Lantrain: ${error.code}\r\n\r\n`);
  setTimeout(() => socket.destroy(), 1_000).unref();
}

/** The other side's address and port. An IPv4 address on an IPv6 socket is shown as IPv4. */
export function peerOf({ remoteAddress, remotePort }: Socket): string {
  const address = remoteAddress?.replace(/^::ffff:(?=[0-9.]+$)/i, '');
  return address === undefined ? '?' : authorityOf(address, remotePort ?? 0);
}
