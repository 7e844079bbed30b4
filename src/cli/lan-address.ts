import { networkInterfaces } from 'node:os';
import { LantrainError } from '../errors.js';

/** `HOST:PORT`; a host in brackets may be an IPv6 address. */
export function listenAddress(text: string, option = '--listen'): [string, number] {
  const match = /^(?:\[([^\]]+)\]|([^:]*)):(\d{1,5})$/.exec(text);
  if (match === null || Number(match[3]) > 65535)
    throw new LantrainError('LT_USAGE_OPTION', `${option} ${text} is not HOST:PORT, such as 0.0.0.0:7070`);
  return [match[1] ?? (match[2] || '0.0.0.0'), Number(match[3])];
}

/** The first address of this machine that others on its network can reach. */
export function lanAddress(): string {
  for (const addresses of Object.values(networkInterfaces()))
    for (const a of addresses ?? []) if (a.family === 'IPv4' && !a.internal) return a.address;
  return '127.0.0.1';
}
