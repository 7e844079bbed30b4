import { closeSync, openSync, readlinkSync } from 'node:fs';
import { isatty } from 'node:tty';

const STANDARD_ERROR = 2;
let isHushed = false;

/**
 * From here on, `withoutDriverOutput` keeps what Dawn and drivers write on standard error from the terminal. Dawn warns
 * there of limits that it lowers itself. Only for a process whose standard error is lantrain's alone: the command line,
 * not the library.
 */
export function hushDriverOutput(): void {
  isHushed = true;
}

/**
 * Calls `look`. If standard error is a terminal and `hushDriverOutput` was called, all that the process writes there
 * meanwhile is lost. Nothing else may open a file meanwhile: it could get the descriptor of standard error. Works on
 * Linux only, because the terminal is opened again by its name in `/proc`.
 */
export function withoutDriverOutput<T>(look: () => T): T {
  if (!isHushed || process.platform !== 'linux' || !isatty(STANDARD_ERROR)) return look();
  let terminal: string;
  let nothing: number;
  try {
    terminal = readlinkSync(`/proc/self/fd/${STANDARD_ERROR}`);
    closeSync(openSync(terminal, 'r+'));
    closeSync(STANDARD_ERROR);
    // The lowest free descriptor is taken.
    nothing = openSync('/dev/null', 'w');
  } catch {
    return look();
  }
  try {
    return look();
  } finally {
    closeSync(nothing);
    openSync(terminal, 'r+');
  }
}
