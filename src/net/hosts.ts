import { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { hostname } from 'node:os';

/** Addresses that stand for all of a machine's. */
const UNSPECIFIED: ReadonlySet<string> = new Set(['0.0.0.0', '::']);
/** Names besides the machine's own by which others reach what listens here, say through a proxy; with commas between. */
const NAMES_VARIABLE = 'LANTRAIN_NAMES';

export interface HostOptions {
  /** What is listened on. */
  readonly host: string;
  /** PEM; the names in it are names of this machine. */
  readonly certificate?: string;
  /** More names; absent, those of the environment. */
  readonly names?: readonly string[];
}

/**
 * By which names this machine is known. A request that asks for another one comes from a page whose name was made to lead
 * here (DNS rebinding), and its browser takes that page and this machine for one origin. An address is no name: it led
 * here, by whatever port mapping, and nobody's page has it for its origin but what listens there.
 */
export class Hosts {
  readonly #names: ReadonlySet<string>;
  readonly #certificate: X509Certificate | undefined;

  constructor({ host, certificate, names = namesOfEnvironment() }: HostOptions) {
    const own = hostname().toLowerCase();
    const all = ['localhost', host, own, `${own}.local`, `${own.split('.')[0]}.local`, ...names];
    this.#names = new Set(all.map(canonical));
    this.#certificate = certificate === undefined ? undefined : new X509Certificate(certificate);
  }

  /** Whether the value of a `Host` header, with its port or without, means this machine. */
  know(header: string | undefined): boolean {
    const [, host] = /^(\[[^\]]+\]|[^:[\]]+)(?::\d*)?$/.exec(header ?? '') ?? [];
    if (host === undefined) return false;
    const name = canonical(host);
    if (isIP(name) !== 0) return !UNSPECIFIED.has(name);
    return this.#names.has(name) || this.#certificate?.checkHost(name) !== undefined;
  }
}

/** What to do about a host that is not known; the header's text is a stranger's. */
export function misdirected(header: string | undefined): string {
  const host = (header ?? '')
    .replace(/:\d*$/, '')
    .replace(/[^\w.:[\]-]/g, '?')
    .slice(0, 100);
  return `${host === '' ? 'no host' : host} is no name of this machine; ${NAMES_VARIABLE}=NAME where it was started allows one`;
}

function namesOfEnvironment(environment: NodeJS.ProcessEnv = process.env): readonly string[] {
  return (environment[NAMES_VARIABLE] ?? '').split(/[\s,]+/).filter((name) => name !== '');
}

/** One spelling: lower case, no brackets, zone or final dot, IPv6 as the URL standard writes it. */
function canonical(host: string): string {
  const bare = host
    .toLowerCase()
    .replace(/^\[(.*)\]$/, '$1')
    .replace(/%.*$/, '')
    .replace(/\.$/, '');
  if (!bare.includes(':')) return bare;
  try {
    return new URL(`http://[${bare}]/`).hostname.slice(1, -1);
  } catch {
    return bare;
  }
}
