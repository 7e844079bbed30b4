import {
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  lstatSync,
  openSync,
  readFileSync,
  type Stats,
  unlinkSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { LantrainError } from '../errors.js';
import { isSystemError } from './system-errors.js';
import { temporaryName } from './temporary-name.js';

export type Kind = 'file' | 'folder' | 'either';

/** Windows has none of these flags. */
const { O_NOFOLLOW = 0, O_NONBLOCK = 0, O_NOCTTY = 0 } = constants;
const { O_CREAT, O_EXCL, O_WRONLY, O_RDONLY, O_APPEND } = constants;

/** Flags of `open` that make a new file and follow no link. */
export const NEW_FILE = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;

export interface OwnRules {
  /** Default `file`. */
  readonly kind?: Kind;
  /**
   * Whether a file may have other names (hard links). To replace or remove a file leaves its other names alone; to
   * write it in place does not.
   */
  readonly isLinkable?: boolean;
}

/**
 * Only these may be written, read back or removed within a run: regular files of this user with one name, and folders
 * of this user. A run's folder may come from another person, and a link in it would lead a write or a removal to a file
 * elsewhere.
 *
 * Opened files are checked by their descriptors, which no other process can exchange. Removing, renaming and making a
 * folder go by name, because Node has no openat: a process that may write the run's folders could replace one of them
 * by a link after the check. Such a process belongs to the user, or to somebody whom the user has let write there.
 *
 * Owners are ignored where they mean nothing. Windows has none. Some network and user-space file systems show one owner
 * for all files, which is then also the owner of a new file of this process. File systems that do not count names
 * report 0 or 1.
 *
 * Throws LT_RUN_FOREIGN, which says what to do, unless `stats` describes a file or folder that is this user's own.
 */
export function checkOwn(path: string, stats: Stats, { kind = 'file', isLinkable = false }: OwnRules = {}): void {
  const isFile = stats.isFile();
  if (stats.isSymbolicLink())
    throw foreign(
      path,
      'is a symbolic link, and none is followed there; remove it, or put in its place what you made it lead to',
    );
  if (!isFile && !stats.isDirectory()) throw foreign(path, `is ${specialKind(stats)}; remove it`);
  if (isFile && kind === 'folder') throw foreign(path, 'is a file where a folder belongs; remove it');
  if (!isFile && kind === 'file') throw foreign(path, 'is a folder where a file belongs; remove it');
  const me = process.geteuid?.();
  if (me !== undefined && stats.uid !== me && stats.uid !== ownerOfNewFile(dirname(path)))
    throw foreign(path, `belongs to user ${stats.uid}, not to you (${me}); make the run yours, by cp -r or chown -R`);
  if (isFile && !isLinkable && stats.nlink > 1)
    throw foreign(
      path,
      `has ${stats.nlink} names (hard links), so that another file would change with it; copy the run, by cp -r, and use the copy`,
    );
}

/** As `checkOwn`, for what lies at `path`; false where nothing does. Also throws the system's errors. */
export function checkOwnAt(path: string, rules?: OwnRules): boolean {
  const stats = lstatIfThere(path);
  if (stats === undefined) return false;
  checkOwn(path, stats, rules);
  return true;
}

function foreign(path: string, what: string): LantrainError {
  return new LantrainError('LT_RUN_FOREIGN', `cannot use ${path}: it ${what}`);
}

function specialKind(stats: Stats): string {
  if (stats.isFIFO()) return 'a pipe';
  return stats.isSocket() ? 'a socket' : 'a device';
}

/** The stats of what lies at `path`, without following a link; undefined where nothing does. */
export function lstatIfThere(path: string): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false });
}

/** The owner that a new file of this process gets in `folder`; undefined where none can be made. */
function ownerOfNewFile(folder: string): number | undefined {
  try {
    const path = temporaryName(`${folder}/probe`);
    const fd = openSync(path, NEW_FILE, 0o600);
    try {
      return fstatSync(fd).uid;
    } finally {
      closeSync(fd);
      unlinkSync(path);
    }
  } catch {
    return undefined;
  }
}

/**
 * Opens a file of this user: to read it, or to append to it, in which case a missing file is made. Follows no link and
 * does not block. Returns the descriptor. Throws LT_RUN_FOREIGN or the system's error.
 */
export function openOwn(path: string, purpose: 'read' | 'append', rules: OwnRules = {}): number {
  const flags = purpose === 'read' ? O_RDONLY : O_WRONLY | O_APPEND | O_CREAT;
  // Merely opening a device may have effects.
  checkFileAt(path, rules);
  let fd: number;
  try {
    fd = openSync(path, flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
  } catch (error) {
    // The system's error is unclear for a link or a pipe that appeared just now.
    checkFileAt(path, rules);
    throw error;
  }
  try {
    const stats = fstatSync(fd);
    if (!stats.isDirectory()) checkOwn(path, stats, rules);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** As `checkOwnAt`, but accepts a folder, which the system refuses later. */
export function checkFileAt(path: string, rules: OwnRules = {}): void {
  const stats = lstatIfThere(path);
  if (stats !== undefined && !stats.isDirectory()) checkOwn(path, stats, rules);
}

/**
 * The text of a file of this user; undefined where there is none. Sets its permissions to `mode`, if given. Throws as
 * `openOwn` does, and LT_RUN_FOREIGN for a file of more than `mostBytes`.
 */
export function readOwn(
  path: string,
  mostBytes: number,
  { mode, ...rules }: OwnRules & { readonly mode?: number } = {},
): string | undefined {
  let fd: number;
  try {
    fd = openOwn(path, 'read', rules);
  } catch (error) {
    if (isSystemError(error) && error.code === 'ENOENT') return undefined;
    throw error;
  }
  try {
    const { size } = fstatSync(fd);
    if (size > mostBytes) throw foreign(path, `has ${size} bytes, and at most ${mostBytes} belong there; remove it`);
    if (mode !== undefined && process.platform !== 'win32') fchmodSync(fd, mode);
    return readFileSync(fd, 'utf8');
  } finally {
    closeSync(fd);
  }
}
