import { closeSync, openSync, readlinkSync } from 'node:fs';
import { isatty } from 'node:tty';

const STANDARD_ERROR = 2;
let isHushed = false;

/**
 * From here on, what Dawn and drivers write on standard error while adapters are looked for does not reach the terminal. Dawn warns
 * there of limits that it lowers itself. For a process whose standard error is ours alone: the command line, not the library.
 */
export function hushDriverOutput(): void {
  isHushed = true;
}

/**
 * Calls `look`, with standard error closed to everybody if it is a terminal and `hushDriverOutput` was called. Nothing else must open
 * a file meanwhile. Linux only, as it is where a descriptor can be opened again by its name.
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
