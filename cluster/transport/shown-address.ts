import { authorityOf } from '../../src/net/join-url.js';
import { type Reachable, reachableAddresses } from '../../src/node/reachable.js';

/** The address at which others reach this machine. */
export interface ShownAddress {
  /** Host for URLs; IPv6 without brackets. */
  readonly host: string;
  /** A line about the address for people. */
  readonly remark?: string;
}

const MOST_OTHERS = 6;

export const isAny = (host: string) => host === '0.0.0.0' || host === '::';

/** The address to print for a socket that listens on `host`. `candidates`: the machine's addresses, best first. */
export function shownAddress(host: string, candidates: readonly Reachable[]): ShownAddress {
  if (!isAny(host)) return { host };
  const [first, ...others] = candidates;
  if (first === undefined)
    return {
      host: '127.0.0.1',
      remark:
        host === '::'
          ? 'address  this machine has none but loopback: others cannot reach it'
          : 'address  this machine has no IPv4 address but loopback; --listen [::]:PORT takes IPv6 as well',
    };
  if (first.address.includes('%'))
    return {
      host: first.address,
      remark: `address  link-local: on another machine, ${first.interface} is the name of its own interface to here`,
    };
  if (others.length === 0) return { host: first.address };
  const named = others.slice(0, MOST_OTHERS).map(({ address, interface: name }) => `${bracketed(address)} (${name})`);
  const more = others.length > MOST_OTHERS ? ` and ${others.length - MOST_OTHERS} more` : '';
  return {
    host: first.address,
    remark: `also     reachable at ${named.join(', ')}${more}: for the URL, where ${bracketed(first.address)} is not reached`,
  };
}

export async function ownAddress(host: string): Promise<ShownAddress> {
  return shownAddress(host, isAny(host) ? await reachableAddresses(host) : []);
}

/** URL of a page; undefined for an address with an interface, which browsers do not accept. */
export function pageAddress(host: string, port: number, secure: boolean): string | undefined {
  return host.includes('%') ? undefined : `${secure ? 'https' : 'http'}://${authorityOf(host, port)}/`;
}

const bracketed = (address: string) => (address.includes(':') ? `[${address}]` : address);
