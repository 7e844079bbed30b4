import { LantrainError } from '../../src/errors.js';

/** Whether an address or name never leaves this machine. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127\.\d+\.\d+\.\d+$/.test(host);
}

/** Throws LT_CLUSTER_PLAIN unless `host` is this machine or unencrypted traffic was asked for by name. */
export function checkPlain(host: string, allowPlain: boolean): void {
  if (allowPlain || isLoopback(host)) return;
  const message = `plain ws:// to ${host} would show weights and gradients to the network; use wss:// or --allow-plain`;
  throw new LantrainError('LT_CLUSTER_PLAIN', message);
}
