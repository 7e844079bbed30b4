import { DEFAULT_PORT } from '../../cluster/transport/listen-port.js';
import { TOKEN_VARIABLE } from '../net/access.js';
import { formatJoinUrl, parseJoinUrl } from '../net/join-url.js';
import { isLoopback } from '../net/loopback.js';
import { pasteable, pasteableElsewhere, withVariable } from '../node/invocation.js';
import type { ListeningEvent } from '../run/events.js';

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

/** What a coordinator says once workers can join. */
export function listeningLines(event: ListeningEvent): string[] {
  const { url, host, port, plain, remark, isOtherPort, fingerprint, warning, minWorkers } = event;
  return [
    ...joinLines(url, host, plain),
    ...(remark === undefined ? [] : [remark]),
    ...(isOtherPort ? [`port     ${port}, as ${DEFAULT_PORT} is taken; open it where there is a firewall`] : []),
    // For who opens the page, to compare with what the browser's warning shows.
    ...(fingerprint === undefined ? [] : [`SHA-256  ${fingerprint} (certificate)`]),
    ...(warning === undefined ? [] : [`warning  ${warning}`]),
    `workers  any number, at any time${minWorkers > 1 ? `; ${minWorkers} to begin` : ''}`,
  ];
}
