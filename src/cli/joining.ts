import { TOKEN_VARIABLE } from '../net/access.js';
import { authorityOf, formatJoinUrl, parseJoinUrl } from '../net/join-url.js';
import { isLoopback } from '../net/loopback.js';
import { pasteable, pasteableElsewhere, withVariable } from '../node/invocation.js';
import { type Reachable, reachableAddresses } from '../node/reachable.js';

/** Where others reach what listens here. */
export interface ShownAddress {
  /** For URLs; IPv6 without brackets. */
  readonly host: string;
  /** A line about it for the reader of the URL. */
  readonly remark?: string;
}

const MOST_OTHERS = 6;

export const isAny = (host: string) => host === '0.0.0.0' || host === '::';

/** The address to print for a socket that listens on `host`, of the machine's `candidates`, best first. */
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

/** What to paste on the machine that is to join, each line with what it is. The token is in no argument of it. */
export function joinLines(url: string, host: string, plain: boolean): string[] {
  const { token, ...rest } = parseJoinUrl(url);
  const shown = formatJoinUrl(rest);
  const paste = isLoopback(host) ? pasteable : pasteableElsewhere;
  const more = plain && !isLoopback(host) ? ['--plain'] : [];
  const withToken = (command: string) => (token === undefined ? command : withVariable(TOKEN_VARIABLE, token, command));
  const quoted = withToken(paste(['worker', shown, ...more]));
  const bare = withToken([paste(['worker']), shown, ...more].join(' '));
  // Of all shells, only zsh takes brackets that match no file for a mistake.
  return [`join     ${bare}`, ...(quoted === bare ? [] : [`in zsh   ${quoted}`])];
}

/** Where a page is, as a browser takes it; undefined for an address with an interface, which browsers do not take. */
export function pageAddress(host: string, port: number, secure: boolean): string | undefined {
  return host.includes('%') ? undefined : `${secure ? 'https' : 'http'}://${authorityOf(host, port)}/`;
}

const bracketed = (address: string) => (address.includes(':') ? `[${address}]` : address);
