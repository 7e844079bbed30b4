import { isSystemError, reason } from '../files/files.js';
import { printableLine } from '../util/printable.js';
import { guardTerminal } from '../util/terminal.js';

/** Names of the standard output streams. */
export type StreamName = 'stdout' | 'stderr';

type Listener = (stream: StreamName, why: string) => void;

const lost = new Map<StreamName, string>();
let listener: Listener | undefined;

/** Prints one line on standard output. Text of others cannot begin a new line. */
export function printLine(line: string): void {
  process.stdout.write(`${printableLine(line)}\n`);
}

/** As `printLine`, on standard error. */
export function remarkLine(line: string): void {
  process.stderr.write(`${printableLine(line)}\n`);
}

/**
 * Makes all output of this process printable (see `guardTerminal`). When standard output fails, because its reader is
 * gone (EPIPE; EIO for a closed terminal) or the disk is full (ENOSPC), the command ends: silently where nobody reads
 * it any more, else with one line. After `outputIsOptional` it continues instead.
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
 * From now on the process continues without its output. `onLost` is called for each stream that fails or has failed
 * already. It must not write to that stream.
 */
export function outputIsOptional(onLost: Listener): void {
  listener = onLost;
  for (const [name, why] of lost) onLost(name, why);
}

/** The line that says, on another stream, that `stream` is lost. */
export function outputLost(stream: StreamName, why: string): string {
  const title = stream === 'stdout' ? 'standard output' : 'standard error';
  return `${title} is lost: ${why}; the run goes on without it`;
}

/** Node's own message is only `write EPIPE`. */
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
