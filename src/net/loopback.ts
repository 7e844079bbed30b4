import { LantrainError } from '../errors.js';

/** Whether traffic to an address or name never leaves this machine. */
export function isLoopback(host: string): boolean {
  return /^(localhost|::1|(::ffff:)?127\.\d+\.\d+\.\d+)$/i.test(host);
}

/** Throws LT_CLUSTER_PLAIN unless `host` is this machine or unencrypted traffic was allowed explicitly. */
export function checkPlain(host: string, allowPlain: boolean): void {
  if (allowPlain || isLoopback(host)) return;
  const message = `plain ws:// to ${host} would show weights and gradients to the network; use wss:// or, on both sides, --plain`;
  throw new LantrainError('LT_CLUSTER_PLAIN', message);
}
