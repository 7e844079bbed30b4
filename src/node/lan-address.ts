import { isIPv6 } from 'node:net';
import { LantrainError } from '../errors.js';
import { anyAddress } from './reachable.js';

/**
 * Parses `HOST:PORT`; an empty host stands for all addresses. An IPv6 address is in brackets, with its interface after
 * `%` if it is link-local. Throws LT_USAGE_OPTION, naming `option`.
 */
export function listenAddress(text: string, option = '--listen'): [string, number] {
  const bad = (why: string) => new LantrainError('LT_USAGE_OPTION', `${option} ${text} ${why}`);
  const match = /^(?:\[([^\]]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(text);
  const bare = text.replace(/%.*/, '');
  if (match === null && (isIPv6(bare) || isIPv6(bare.replace(/:\d{1,5}$/, ''))))
    throw bad('is not HOST:PORT: an IPv6 address stands in brackets, such as [::1]:7070');
  if (match === null || Number(match[3]) > 65535) throw bad('is not HOST:PORT, such as 0.0.0.0:7070 or [::]:7070');
  const [, bracketed, name, port] = match;
  if (bracketed === undefined) return [name || anyAddress(), Number(port)];
  const [address, zone] = bracketed.split(/%(?:25)?(.*)/);
  if (!isIPv6(address)) throw bad(`is not HOST:PORT: ${bracketed} is no IPv6 address, so it has no brackets`);
  // The canonical form: lower case, without the longest run of zeros.
  const short = new URL(`http://[${address}]`).hostname.slice(1, -1);
  return [zone ? `${short}%${zone}` : short, Number(port)];
}
