/**
 * Why a worker cannot connect, derived from the other side's behaviour. Failures that may pass have the code
 * LT_CLUSTER_CONNECT. Those that a retry cannot fix have other codes.
 */
import { connect as netConnect } from 'node:net';
import { connect as tlsConnect } from 'node:tls';
import { type ErrorCode, LantrainError } from '../../src/errors.js';
import { authorityOf, type JoinUrl } from '../../src/net/join-url.js';
import { printableLine } from '../../src/util/printable.js';

const where = ({ host, port }: JoinUrl) => authorityOf(host, port);

/** There is no answer; the coordinator may come back. */
export function unreachable(url: JoinUrl, why: string, cause?: Error): LantrainError {
  const message = `cannot reach a coordinator at ${where(url)} (${why}); is it running, and the port open?`;
  return new LantrainError('LT_CLUSTER_CONNECT', message, { cause });
}

/** For a system error before any data was exchanged. */
export function systemTrouble(url: JoinUrl, cause: NodeJS.ErrnoException): LantrainError {
  const isLinkLocal = /^fe[89ab]/i.test(url.host);
  if (isLinkLocal && (cause.code === 'EINVAL' || cause.code === 'ENODEV' || cause.code === 'EADDRNOTAVAIL'))
    return new LantrainError(
      'LT_CLUSTER_URL',
      `${where(url)} is a link-local address and needs an interface of this machine beside it, such as ` +
        "[fe80::1%25eth0]; yours have other names than the coordinator's",
      { cause },
    );
  const why = cause.code === 'ENOTFOUND' ? 'ENOTFOUND: no machine of that name is known' : cause.code;
  return unreachable(url, why ?? cause.message, cause);
}

/** Whether the other side answered, but not with acceptable TLS. */
export function isProtocolError({ code }: NodeJS.ErrnoException): boolean {
  return code === 'EPROTO' || code?.startsWith('ERR_SSL_') === true;
}

/** A request for a WebSocket got no answer, or one that is not HTTP. */
export async function brokeOff(url: JoinUrl, cause: NodeJS.ErrnoException): Promise<LantrainError> {
  // Codes of the HTTP parser begin with HPE; errors of `ws` have no code.
  const isNonsense = cause.code === undefined || cause.code.startsWith('HPE_');
  if (isNonsense) return strangerAt(url);
  // A server that requires TLS hangs up on plain text; so does a coordinator that is ending.
  const spoke = url.secure || cause.code === 'ETIMEDOUT' ? undefined : await speaksTls(url);
  return spoke === true ? wantsTls(url) : unreachable(url, cause.code ?? cause.message, cause);
}

/** A lantrain server refused the request, with a code. */
export function refusal(url: JoinUrl, code: ErrorCode, status: number): LantrainError {
  if (code === 'LT_CLUSTER_LIMIT') {
    const full = `${where(url)} takes no more workers now (${status}); it is asked again until there is room`;
    return new LantrainError(code, full);
  }
  if (status === 421)
    return new LantrainError(
      code,
      `${where(url)} does not know itself by that name (421); take the address that the coordinator prints, or start ` +
        `the coordinator with LANTRAIN_NAMES=${url.host}`,
    );
  if (code !== 'LT_CLUSTER_URL')
    return new LantrainError(code, `${where(url)} refused the connection (${status} ${code})`);
  return new LantrainError(
    code,
    `${where(url)} is the page of a run, of train --watch or view, and takes no workers (${status}); take the URL that ` +
      'a coordinator prints in its line join',
  );
}

/** A web server answered the request for a WebSocket like any other. */
export async function webServer(url: JoinUrl, status: number, statusText: string): Promise<LantrainError> {
  const answer = printableLine(`${status} ${statusText}`.trim(), MOST_STATUS);
  // A proxy that is overloaded, or whose coordinator is away.
  if (status >= 500 || status === 429 || status === 408)
    return unreachable(url, `a web server answers for it: ${answer}`);
  if (!url.secure && (await speaksTls(url))) return wantsTls(url);
  return foreign(url, `a web server answers there (${answer})`);
}

/** Finds out what answered instead of a coordinator. */
export async function strangerAt(url: JoinUrl): Promise<LantrainError> {
  if (await speaksTls(url))
    return url.secure
      ? foreign(url, 'it speaks an older TLS than 1.3, as a proxy or another server does')
      : wantsTls(url);
  const said = await firstWords(url);
  if (said instanceof Error) return systemTrouble(url, said);
  const [, status] = /^HTTP\/1\.\d (\d+ [^\r\n]*)/.exec(said) ?? [];
  const isLantrain = /^server: lantrain\b/im.test(said) || /lantrain/i.test(said.split('\r\n\r\n')[1] ?? '');
  if (status !== undefined && isLantrain)
    return new LantrainError(
      'LT_CLUSTER_URL',
      `the coordinator at ${where(url)} speaks plain ws (it was started with --plain); take the ws:// URL that it ` +
        'prints, and --plain here as well unless it is this machine',
    );
  if (status !== undefined)
    return foreign(url, `a web server without TLS answers there (${printableLine(status.trim(), MOST_STATUS)})`);
  const banner = said
    .split(/[\r\n]/)[0]
    .replace(/[^\x20-\x7e]/g, '?')
    .slice(0, 60);
  const isText = banner.length > 3 && !banner.includes('?');
  return foreign(
    url,
    isText ? `something else answers there: ${JSON.stringify(banner)}` : 'something else answers there',
  );
}

/** An error of the handshake, with advice. */
export function withAdvice(error: unknown, url: JoinUrl): unknown {
  if (!(error instanceof LantrainError)) return error;
  const { code, message } = error;
  if (code === 'LT_CLUSTER_VERSION')
    return new LantrainError(code, `${message}: bring both to the same version of lantrain`, { cause: error });
  if (code === 'LT_CLUSTER_MALFORMED') return foreign(url, `a WebSocket of something else is there (${message})`);
  return error;
}

function foreign(url: JoinUrl, what: string): LantrainError {
  return new LantrainError(
    'LT_CLUSTER_FOREIGN',
    `${where(url)} is no coordinator of lantrain: ${what}; compare host and port with the URL that the coordinator prints`,
  );
}

function wantsTls(url: JoinUrl): LantrainError {
  return new LantrainError(
    'LT_CLUSTER_URL',
    `${where(url)} speaks TLS, so its URL begins with wss://; copy all of the one that the coordinator prints: ` +
      'wss://host:port/#.FINGERPRINT',
  );
}

/** UTF-16 units of a status line that are quoted. */
const MOST_STATUS = 80;
const PROBE_MS = 3_000;
const LISTEN_MS = 500;
const MOST_HEARD = 16_384;

/** Whether the server completes a TLS handshake. Sends nothing else. */
function speaksTls({ host, port }: JoinUrl): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = tlsConnect({ host, port, rejectUnauthorized: false, timeout: PROBE_MS });
    const end = (spoke: boolean) => {
      socket.on('error', () => {}).destroy();
      resolve(spoke);
    };
    socket.once('secureConnect', () => end(true));
    for (const event of ['error', 'close', 'timeout']) socket.once(event, () => end(false));
  });
}

/** What a server sends unasked, or in answer to a plain HTTP request; an error if it cannot be reached any more. */
function firstWords({ host, port }: JoinUrl): Promise<string | Error> {
  return new Promise((resolve) => {
    let said = '';
    const socket = netConnect({ host, port, timeout: PROBE_MS });
    const name = authorityOf(host.replace(/%.*/, ''), port);
    const ask = setTimeout(() => {
      if (said === '') socket.write(`GET / HTTP/1.1\r\nHost: ${name}\r\nConnection: close\r\n\r\n`);
      else end(said);
    }, LISTEN_MS);
    const deadline = setTimeout(() => end(said), PROBE_MS);
    const end = (result: string | Error) => {
      clearTimeout(ask);
      clearTimeout(deadline);
      socket.on('error', () => {}).destroy();
      resolve(result);
    };
    socket.setEncoding('latin1').on('data', (text) => {
      said += text;
      if (said.length > MOST_HEARD) end(said);
    });
    socket.once('error', (error) => end(said === '' ? error : said));
    for (const event of ['close', 'timeout']) socket.once(event, () => end(said));
  });
}
