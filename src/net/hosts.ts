import { X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { hostname } from 'node:os';

/** Addresses that stand for all addresses of a machine. */
const UNSPECIFIED: ReadonlySet<string> = new Set(['0.0.0.0', '::']);
/** Further names by which others reach this machine, for example through a proxy; separated by commas. */
const NAMES_VARIABLE = 'LANTRAIN_NAMES';

export interface HostOptions {
  /** The address that the server listens on. */
  readonly host: string;
  /** PEM. Its names are names of this machine. */
  readonly certificate?: string;
  /** Further names; default: those of the environment. */
  readonly names?: readonly string[];
}

/**
 * The names of this machine. A request for another name comes from a page whose name was made to lead here (DNS
 * rebinding): the browser takes that page and this machine for one origin. An address is always accepted: it led here,
 * by whatever port mapping, and only the server at that address has it as its origin.
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

  /** Whether a `Host` header, with or without a port, means this machine. */
  includes(header: string | undefined): boolean {
    const [, host] = /^(\[[^\]]+\]|[^:[\]]+)(?::\d*)?$/.exec(header ?? '') ?? [];
    if (host === undefined) return false;
    const name = canonical(host);
    if (isIP(name) !== 0) return !UNSPECIFIED.has(name);
    return this.#names.has(name) || this.#certificate?.checkHost(name) !== undefined;
  }
}

/** A message on an unknown host and what to do. The header's text is not trusted. */
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
