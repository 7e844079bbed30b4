/**
 * Coordinators on the LAN by mDNS and DNS-SD (RFC 6762, 6763). A record says where a coordinator is and which
 * certificate to expect, never the token: anybody may read it, and anybody may write one, which is why a worker checks
 * the certificate and both sides prove the token.
 */
import Bonjour from 'bonjour-service';
import type { JoinUrl } from '../../src/net/join-url.js';
import { printableLine } from '../../src/util/printable.js';

const SERVICE = 'lantrain';

export interface Advertisement {
  /** The machine's name, and the run's. */
  readonly host: string;
  readonly run: string;
  readonly port: number;
  /** Absent: plain ws. */
  readonly fingerprint?: string;
  /** lantrain's version. */
  readonly version: string;
}

export interface Discovered {
  /** Of the service; two on one machine have two. */
  readonly name: string;
  readonly version: string;
  /** Without a token. */
  readonly url: JoinUrl;
}

/** What a label of DNS carries. */
const LABEL_BYTES = 63;
const MARK = / [\w-]{6}$/;
/** Anybody may answer, and as often as they like. */
const MOST_FOUND = 256;

/**
 * The name of a coordinator's service. No two of a network may be equal, or one is not seen: on one machine the port
 * tells them apart, on machines of one name the certificate's mark at the end, which people are not shown.
 */
export function serviceName({ host, run, port, fingerprint }: Omit<Advertisement, 'version'>): string {
  const begin = `lantrain on ${cut(host.replace(/\..*/, ''), 16)} (run `;
  const end = `, port ${port}) ${(fingerprint ?? 'no-TLS').slice(0, 6)}`;
  return `${begin}${cut(run, LABEL_BYTES - begin.length - end.length)}${end}`;
}

/** ASCII without dots, which end a label where a library is careless, and not longer than this. */
function cut(text: string, most: number): string {
  const plain = text.replace(/[^\x20-\x7e]|\./g, '_');
  return plain.length <= most ? plain : `${plain.slice(0, most - 1)}~`;
}

/** Answers questions for coordinators until `stop`. Where multicast is impossible, `onTrouble` hears of it once. */
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

/** Coordinators that answered within the time; none where multicast is impossible. */
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

/** A record as far as it makes sense; undefined for one that does not. */
export function readService({ name, port, addresses, referer, txt }: ServiceRecord): Discovered | undefined {
  // The address that the answer came from is one that can be reached from here.
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

/** IPv4, or IPv6 that needs no interface named beside it. */
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
    // The library hands its socket's errors to nobody, which would end the process.
    const { mdns } = (bonjour as unknown as { server: { mdns: Mdns } }).server;
    mdns.on('error', tell);
    // A warning can be a packet that somebody made up; only the system's own are trouble.
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
    // A socket that never bound never closes.
    setTimeout(resolve, 1_000).unref();
  });
}
