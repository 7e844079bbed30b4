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

/** Windows has none of these. */
const { O_NOFOLLOW = 0, O_NONBLOCK = 0, O_NOCTTY = 0 } = constants;
const { O_CREAT, O_EXCL, O_WRONLY, O_RDONLY, O_APPEND } = constants;

/** For `open`: makes a file that was not there, and follows no link in its place. */
export const NEW_FILE = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;

export interface OwnRules {
  /** `file` by default. */
  readonly kind?: Kind;
  /** Whether a file may have other names. One that is replaced or removed, never written in place, leaves them alone. */
  readonly isLinkable?: boolean;
}

/**
 * What may be written, read back or removed below a run: regular files of this user that have one name, and folders of
 * this user. A run directory may come from somebody else: a link that lies in it would lead a write or a removal to a
 * file elsewhere.
 *
 * Files that are opened are checked by their descriptors, which no other process can exchange. Removing, renaming and
 * making a folder go by name, for Node has no openat: who may write the run's own folders at the same moment could put a
 * link in the place of one of them after it was checked. Such a person is the user himself, or somebody whom he has let
 * write there.
 *
 * Where owners mean nothing, they are not held against a file: Windows has none, and some network and user-space file
 * systems show one owner for all files, which is then also that of a new file of this process. Those that do not count
 * names say 0 or 1.
 *
 * Throws LT_RUN_FOREIGN, which says what to do, unless what `stats` tells of is this user's own.
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

/** As `checkOwn`, of what lies at `path`. False where nothing does. Throws what the system says as well. */
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

/** What lies at `path` itself, links not followed. */
export function lstatIfThere(path: string): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false });
}

/** Who owns this process's own files in a folder, by the file system; undefined where none can be made. */
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
 * Opens a file of this user's own: to read it, or to append to it, made where it is missing. Follows no link and waits for
 * nobody. Throws LT_RUN_FOREIGN, or what the system says.
 */
export function openOwn(path: string, purpose: 'read' | 'append', rules: OwnRules = {}): number {
  const flags = purpose === 'read' ? O_RDONLY : O_WRONLY | O_APPEND | O_CREAT;
  // To open a device may do something already.
  checkFileAt(path, rules);
  let fd: number;
  try {
    fd = openSync(path, flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
  } catch (error) {
    // The system has no good word for a link or a pipe that came just now.
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

/** As `checkOwnAt`, where a folder is left for the system to refuse. */
export function checkFileAt(path: string, rules: OwnRules = {}): void {
  const stats = lstatIfThere(path);
  if (stats !== undefined && !stats.isDirectory()) checkOwn(path, stats, rules);
}

/**
 * The text of a file of this user's own, which gets the permissions `mode`; undefined where there is none. Throws as
 * `openOwn`, and for a larger one.
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
