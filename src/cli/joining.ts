import { DEFAULT_PORT } from '../../cluster/transport/listen-port.js';
import { TOKEN_VARIABLE } from '../net/access.js';
import { formatJoinUrl, parseJoinUrl } from '../net/join-url.js';
import { isLoopback } from '../net/loopback.js';
import { pasteable, pasteableElsewhere, withVariable } from '../node/invocation.js';
import type { ListeningEvent } from '../run/events.js';

/** Labelled lines to paste on the machine that joins. No argument in them contains the token. */
export function joinLines(url: string, host: string, plain: boolean): string[] {
  const { token, ...rest } = parseJoinUrl(url);
  const shown = formatJoinUrl(rest);
  const paste = isLoopback(host) ? pasteable : pasteableElsewhere;
  const more = plain && !isLoopback(host) ? ['--plain'] : [];
  const withToken = (command: string) => (token === undefined ? command : withVariable(TOKEN_VARIABLE, token, command));
  const quoted = withToken(paste(['worker', shown, ...more]));
  const bare = withToken([paste(['worker']), shown, ...more].join(' '));
  // Only zsh rejects brackets that match no file.
  return [`join     ${bare}`, ...(quoted === bare ? [] : [`in zsh   ${quoted}`])];
}

/** The lines of a coordinator when workers can join. */
export function listeningLines(event: ListeningEvent): string[] {
  const { url, host, port, plain, remark, isOtherPort, fingerprint, warning, minWorkers } = event;
  return [
    ...joinLines(url, host, plain),
    ...(remark === undefined ? [] : [remark]),
    ...(isOtherPort ? [`port     ${port}, as ${DEFAULT_PORT} is taken; open it where there is a firewall`] : []),
    // For comparison with the browser's warning.
    ...(fingerprint === undefined ? [] : [`SHA-256  ${fingerprint} (certificate)`]),
    ...(warning === undefined ? [] : [`warning  ${warning}`]),
    `workers  any number, at any time${minWorkers > 1 ? `; ${minWorkers} to begin` : ''}`,
  ];
}
