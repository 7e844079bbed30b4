import { LantrainError } from '../src/errors.js';

/** Base64url of at least 128 bits. */
const TOKEN = /^[A-Za-z0-9_-]{22,200}$/;
/** Base64url of a SHA-256. */
const FINGERPRINT = /^[A-Za-z0-9_-]{43}$/;

/** Where a coordinator is, and what it takes to be let in. */
export interface JoinUrl {
  readonly secure: boolean;
  /** A name, an IPv4 address, or an IPv6 address without brackets. */
  readonly host: string;
  readonly port: number;
  /** Absent in a URL that was found or is to be shown: then it comes by environment or standard input. */
  readonly token?: string;
  /** SHA-256 of the certificate in base64url; absent with a certificate that an authority vouches for. */
  readonly fingerprint?: string;
}

/** `ws(s)://host:port/#TOKEN.FINGERPRINT`: nothing in it means anything to a shell. */
export function formatJoinUrl({ secure, host, port, token, fingerprint }: JoinUrl): string {
  const authority = `${host.includes(':') ? `[${host}]` : host}:${port}`;
  const secret = [token ?? '', ...(fingerprint === undefined ? [] : [fingerprint])].join('.');
  return `${secure ? 'wss' : 'ws'}://${authority}/${secret === '' ? '' : `#${secret}`}`;
}

/** Takes the page's link (`https://...`) as well. Throws LT_CLUSTER_URL, which never shows the token. */
export function parseJoinUrl(text: string): JoinUrl {
  const bad = (why: string) =>
    new LantrainError('LT_CLUSTER_URL', `not a join URL (${why}); it looks like wss://host:port/#TOKEN.FINGERPRINT`);
  let url: URL;
  try {
    url = new URL(text.trim());
  } catch {
    throw bad('it cannot be parsed');
  }
  const secure = url.protocol === 'wss:' || url.protocol === 'https:';
  if (!secure && url.protocol !== 'ws:' && url.protocol !== 'http:') throw bad('it must begin with wss:// or ws://');
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.pathname !== '/')
    throw bad('nothing may stand between the port and #');
  const [token, fingerprint, ...rest] = url.hash.slice(1).split('.');
  if (rest.length > 0) throw bad('there is more than a token and a fingerprint');
  if (token !== '' && !TOKEN.test(token)) throw bad('its token is cut off or damaged');
  if (fingerprint !== undefined && !FINGERPRINT.test(fingerprint)) throw bad('its fingerprint is cut off or damaged');
  if (fingerprint !== undefined && !secure) throw bad('a fingerprint belongs to wss://');
  return {
    secure,
    host: url.hostname.replace(/^\[(.*)\]$/, '$1'),
    port: url.port === '' ? (secure ? 443 : 80) : Number(url.port),
    ...(token === '' ? {} : { token }),
    ...(fingerprint === undefined ? {} : { fingerprint }),
  };
}

/** Throws LT_CLUSTER_TOKEN unless the text can be a token; white space around it does not count. */
export function checkToken(text: string, source: string): string {
  const token = text.trim();
  if (TOKEN.test(token)) return token;
  throw new LantrainError(
    'LT_CLUSTER_TOKEN',
    `the token from ${source} is not one: it must be 22 or more of A-Z, a-z, 0-9, - and _`,
  );
}

/** A fingerprint as browsers show it: hexadecimal bytes with colons. */
export function hexFingerprint(fingerprint: string): string {
  const binary = atob(fingerprint.replaceAll('-', '+').replaceAll('_', '/'));
  return Array.from(binary, (c) => c.charCodeAt(0).toString(16).padStart(2, '0').toUpperCase()).join(':');
}
