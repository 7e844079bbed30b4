import { isSystemError, reason } from '../files/files.js';
import { printableLine } from '../util/printable.js';
import { guardTerminal } from '../util/terminal.js';

/** The standard streams of this process by name. */
export type StreamName = 'stdout' | 'stderr';

type Listener = (stream: StreamName, why: string) => void;

const lost = new Map<StreamName, string>();
let listener: Listener | undefined;

/** One line on standard output, whatever is in it: what others cause begins no line of its own. */
export function printLine(line: string): void {
  process.stdout.write(`${printableLine(line)}\n`);
}

/** The same on standard error. */
export function remarkLine(line: string): void {
  process.stderr.write(`${printableLine(line)}\n`);
}

/**
 * All text of this process is made printable (see `guardTerminal`). A reader that goes away (EPIPE, EIO of a closed
 * terminal) or a full disk (ENOSPC) ends a command whose output is its purpose: quietly where nobody reads it any more,
 * else with one line. A run goes on, see `outputIsOptional`.
 */
export function guardOutput(): void {
  for (const name of ['stdout', 'stderr'] as const) {
    guardTerminal(process[name]);
    process[name].on('error', (error) => {
      if (lost.has(name)) return;
      const why = whyOf(error);
      lost.set(name, why);
      if (listener) listener(name, why);
      else if (name === 'stdout') endCommand(error, why);
    });
  }
}

/**
 * From here on the process lives on without its output. `onLost` is told of each stream that is gone, or was already; it
 * must not write to that one.
 */
export function outputIsOptional(onLost: Listener): void {
  listener = onLost;
  for (const [name, why] of lost) onLost(name, why);
}

/** What is said elsewhere of a stream that is gone. */
export function outputLost(stream: StreamName, why: string): string {
  const title = stream === 'stdout' ? 'standard output' : 'standard error';
  return `${title} is lost: ${why}; the run goes on without it`;
}

/** Node says of a pipe no more than `write EPIPE`. */
const GONE: Readonly<Record<string, string>> = {
  EPIPE: 'nobody reads it any more (EPIPE)',
  EIO: 'its terminal is closed (EIO)',
};

function whyOf(error: Error): string {
  if (!isSystemError(error)) return error.message;
  return GONE[error.code ?? ''] ?? reason(error);
}

function endCommand(error: Error, why: string): void {
  const { code } = error as NodeJS.ErrnoException;
  if (Object.hasOwn(GONE, code ?? '')) process.exit(0);
  process.stderr.write(`error LT_RUN_WRITE: cannot write to standard output: ${why}\n`, () => process.exit(1));
}
