import { LantrainError } from '../errors.js';

/** Base64url of at least 128 bits. */
const TOKEN = /^[A-Za-z0-9_-]{22,200}$/;
/** Base64url of a SHA-256. */
const FINGERPRINT = /^[A-Za-z0-9_-]{43}$/;

/** A coordinator's address and what is needed to join it. */
export interface JoinUrl {
  readonly secure: boolean;
  /** A name, an IPv4 address, or an IPv6 address without brackets, with its zone if any (`fe80::1%eth0`). */
  readonly host: string;
  readonly port: number;
  /**
   * Absent in a URL that was found or is shown to others. Then it comes from the environment, a file or standard input.
   */
  readonly token?: string;
  /** SHA-256 of the certificate, base64url; absent where an authority has signed the certificate. */
  readonly fingerprint?: string;
}

/** `host:port` of a URL: IPv6 in brackets, the zone after `%25` (RFC 6874). */
export function authorityOf(host: string, port: number): string {
  return `${host.includes(':') ? `[${host.replace('%', '%25')}]` : host}:${port}`;
}

/**
 * `ws(s)://host:port/#TOKEN.FINGERPRINT`, or `#.FINGERPRINT` without a token. Only the brackets of IPv6 may have a
 * meaning to a shell.
 */
export function formatJoinUrl({ secure, host, port, token, fingerprint }: JoinUrl): string {
  const secret = [token ?? '', ...(fingerprint === undefined ? [] : [fingerprint])].join('.');
  return `${secure ? 'wss' : 'ws'}://${authorityOf(host, port)}/${secret === '' ? '' : `#${secret}`}`;
}

/** A zone, as printed or as typed. The URL standard has none. */
const ZONE = /^(\w+:\/\/\[[0-9a-f:.]+)%(?:25)?([\w.~-]+)\]/i;

/** Parses a join URL or the page's link (`https://...`). Throws LT_CLUSTER_URL, which never shows the token. */
export function parseJoinUrl(text: string): JoinUrl {
  const bad = (why: string) =>
    new LantrainError(
      'LT_CLUSTER_URL',
      `not a join URL (${why}); it looks like wss://host:port/#.FINGERPRINT, or #TOKEN.FINGERPRINT`,
    );
  // Windows' cmd passes quotes of other shells on, and mails put URLs in angle brackets.
  const bare = text.trim().replace(/^['"<]+|['">]+$/g, '');
  const [, , zone] = ZONE.exec(bare) ?? [];
  let url: URL;
  try {
    url = new URL(bare.replace(ZONE, '$1]'));
  } catch {
    throw bad(/:\/\//.test(bare) ? 'it cannot be parsed' : 'it is a part of one, or none: copy all of it');
  }
  const secure = url.protocol === 'wss:' || url.protocol === 'https:';
  if (!secure && url.protocol !== 'ws:' && url.protocol !== 'http:') throw bad('it must begin with wss:// or ws://');
  if (url.username !== '' || url.password !== '' || url.search !== '' || url.pathname !== '/')
    throw bad('nothing may stand between the port and #');
  if (url.port === '0') throw bad('nobody listens on port 0');
  const [token, fingerprint, ...rest] = url.hash.slice(1).split('.');
  if (rest.length > 0)
    throw bad(
      rest.length === 1 && TOKEN.test(rest[0])
        ? "it is the page's admin link, which is for you alone: take the one of the line join"
        : 'there is more than a token and a fingerprint',
    );
  if (token !== '' && !TOKEN.test(token)) throw bad('its token is cut off or damaged');
  if (fingerprint !== undefined && fingerprint !== '' && !secure)
    throw bad('a fingerprint belongs to wss://, as the coordinator printed it');
  if (fingerprint !== undefined && !FINGERPRINT.test(fingerprint)) throw bad('its fingerprint is cut off or damaged');
  return {
    secure,
    host: url.hostname.replace(/^\[(.*)\]$/, '$1') + (zone === undefined ? '' : `%${zone}`),
    port: url.port === '' ? (secure ? 443 : 80) : Number(url.port),
    ...(token === '' ? {} : { token }),
    ...(fingerprint === undefined ? {} : { fingerprint }),
  };
}

/**
 * The token in `text`, without white space around it. Throws LT_CLUSTER_TOKEN, naming `source`, where it cannot be a
 * token.
 */
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
