import { createServer, type Server } from 'node:net';
import { LantrainError } from '../errors.js';
import { authorityOf } from './join-url.js';

/** Meanings of the system's error codes for an address that a user chose. */
const REASONS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'another program has this port',
  EADDRNOTAVAIL: 'no interface of this machine has this address',
  EACCES: 'this user may not take this port',
  ENOTFOUND: 'there is no such host',
  EINVAL: 'a link-local IPv6 address needs its interface beside it, such as [fe80::1%eth0]:7070',
};

/** Resolves once `server` listens. Throws LT_CLUSTER_LISTEN, with the system's error as its cause. */
export async function listening(
  server: Server,
  host: string,
  port: number,
  advice = 'choose another --listen HOST:PORT',
): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const reason = REASONS[cause.code ?? ''];
      const why = [cause.code ?? cause.message, ...(reason === undefined ? [] : [reason])].join(': ');
      const message = `cannot listen on ${authorityOf(host, port)} (${why}); ${advice}`;
      reject(new LantrainError('LT_CLUSTER_LISTEN', message, { cause }));
    });
    server.listen({ host, port }, resolve);
  });
}

/** Throws LT_CLUSTER_LISTEN where the address is not available now; for callers with long work before they listen. */
export async function checkAddress(host: string, port: number, advice?: string): Promise<void> {
  const probe = createServer();
  await listening(probe, host, port, advice);
  await new Promise((closed) => probe.close(closed));
}

/** Whether an error of `listening` says that another program has the port. */
export function isTaken(error: unknown): boolean {
  if (!(error instanceof LantrainError) || error.code !== 'LT_CLUSTER_LISTEN') return false;
  const { code } = (error.cause ?? {}) as NodeJS.ErrnoException;
  // Windows reserves ranges of ports and reports EACCES.
  return code === 'EADDRINUSE' || (code === 'EACCES' && process.platform === 'win32');
}
