/**
 * Finds coordinators on the LAN by mDNS and DNS-SD (RFC 6762, 6763). A record has a coordinator's address and its
 * certificate's fingerprint, never the token. Anybody may read or forge a record, so a worker checks the certificate
 * and both sides prove the token.
 */
import Bonjour from 'bonjour-service';
import type { JoinUrl } from '../../src/net/join-url.js';
import { printableLine } from '../../src/util/printable.js';

const SERVICE = 'lantrain';

export interface Advertisement {
  /** Names of the machine and of the run. */
  readonly host: string;
  readonly run: string;
  readonly port: number;
  /** Absent for plain ws. */
  readonly fingerprint?: string;
  /** lantrain's version. */
  readonly version: string;
}

export interface Discovered {
  /** Name of the service; distinct for coordinators on one machine. */
  readonly name: string;
  readonly version: string;
  /** The join URL, without a token. */
  readonly url: JoinUrl;
}

/** Largest number of bytes of a DNS label. */
const LABEL_BYTES = 63;
const MARK = / [\w-]{6}$/;
/** Limit of results, because anybody may answer as often as they like. */
const MOST_FOUND = 256;

/**
 * The name of a coordinator's service. Equal names on a network would hide one of the services. The port distinguishes
 * coordinators on one machine. The certificate's mark at the end distinguishes machines of one name; it is not shown to
 * people.
 */
export function serviceName({ host, run, port, fingerprint }: Omit<Advertisement, 'version'>): string {
  const begin = `lantrain on ${cut(host.replace(/\..*/, ''), 16)} (run `;
  const end = `, port ${port}) ${(fingerprint ?? 'no-TLS').slice(0, 6)}`;
  return `${begin}${cut(run, LABEL_BYTES - begin.length - end.length)}${end}`;
}

/** At most `most` ASCII characters without dots: in a careless library a dot ends a label. */
function cut(text: string, most: number): string {
  const plain = text.replace(/[^\x20-\x7e]|\./g, '_');
  return plain.length <= most ? plain : `${plain.slice(0, most - 1)}~`;
}

/** Answers queries for coordinators until `stop`. If multicast is impossible, `onTrouble` is called once. */
export function advertise(
  { host, run, port, fingerprint, version }: Advertisement,
  onTrouble: (error: Error) => void = () => {},
): { stop(): Promise<void> } {
  const bonjour = openBonjour(onTrouble);
  const txt = { version, ...(fingerprint === undefined ? {} : { fingerprint }) };
  bonjour
    ?.publish({ name: serviceName({ host, run, port, fingerprint }), type: SERVICE, port, txt, probe: false })
    .on('error', onTrouble);
  return { stop: () => closeBonjour(bonjour) };
}

/** Coordinators that answered within `timeoutMs`; none if multicast is impossible. */
export async function discover(
  timeoutMs: number,
  onTrouble: (error: Error) => void = () => {},
): Promise<readonly Discovered[]> {
  const bonjour = openBonjour(onTrouble);
  const found = new Map<string, Discovered>();
  bonjour?.find({ type: SERVICE }, (service) => {
    const result = readService(service);
    if (result !== undefined && found.size < MOST_FOUND) found.set(`${result.url.host}:${result.url.port}`, result);
  });
  await new Promise((resolve) => setTimeout(resolve, bonjour === undefined ? 0 : timeoutMs));
  await closeBonjour(bonjour);
  return [...found.values()];
}

interface ServiceRecord {
  readonly name?: unknown;
  readonly port?: unknown;
  readonly addresses?: readonly string[];
  readonly referer?: { readonly address: string };
  readonly txt?: unknown;
}

/** Reads a record; undefined if it is not valid. */
export function readService({ name, port, addresses, referer, txt }: ServiceRecord): Discovered | undefined {
  // The source address of the answer comes first: it can be reached from here.
  const host = [referer?.address, ...(addresses ?? [])].find((a) => a !== undefined && isUsable(a));
  if (typeof name !== 'string' || typeof port !== 'number' || host === undefined) return undefined;
  if (!Number.isInteger(port) || port < 1 || port > 65535) return undefined;
  const { fingerprint, version } = (txt ?? {}) as Record<string, unknown>;
  if (fingerprint !== undefined && !(typeof fingerprint === 'string' && /^[A-Za-z0-9_-]{43}$/.test(fingerprint)))
    return undefined;
  return {
    name: printableLine(name, LABEL_BYTES).replace(MARK, ''),
    version: printableLine(String(version ?? '?'), LABEL_BYTES),
    url: { secure: fingerprint !== undefined, host, port, ...(fingerprint === undefined ? {} : { fingerprint }) },
  };
}

/** Whether it is an IPv4 address, or an IPv6 address that needs no interface. */
const isUsable = (address: string) => /^[0-9.]+$/.test(address) || /^(?!fe80)[0-9a-f:]+$/i.test(address);

type Mdns = { on(event: string, listener: (error: Error) => void): void };

function openBonjour(onTrouble: (error: Error) => void): Bonjour | undefined {
  let told = false;
  const tell = (error: Error) => {
    if (!told) onTrouble(error);
    told = true;
  };
  try {
    const bonjour = new Bonjour({}, tell);
    // The library does not handle its socket's errors, which would end the process.
    const { mdns } = (bonjour as unknown as { server: { mdns: Mdns } }).server;
    mdns.on('error', tell);
    // A warning can be caused by a forged packet; only system errors count.
    mdns.on('warning', (error) => 'syscall' in error && tell(error));
    return bonjour;
  } catch (error) {
    tell(error as Error);
    return undefined;
  }
}

function closeBonjour(bonjour: Bonjour | undefined): Promise<void> {
  return new Promise((resolve) => {
    if (bonjour === undefined) resolve();
    else bonjour.unpublishAll(() => bonjour.destroy(() => resolve()));
    // A socket that was never bound never closes.
    setTimeout(resolve, 1_000).unref();
  });
}
