import { accessSync, constants, existsSync, mkdirSync, rmdirSync, statSync } from 'node:fs';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname, isAbsolute } from 'node:path';
import { getSystemErrorMap } from 'node:util';
import { LantrainError } from './errors.js';

/**
 * Writes the file `path` whole or not at all: `fill` writes to the name `temporary` in the same folder, which is fsynced
 * and renamed. Whatever goes wrong, the old file stands and the temporary is removed.
 */
export async function replaceFile(
  path: string,
  temporary: string,
  fill: (file: FileHandle) => void | Promise<void>,
): Promise<void> {
  try {
    const file = await open(temporary, 'w');
    try {
      await fill(file);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    await syncDirectory(dirname(path));
  } catch (error) {
    await removeQuietly(temporary);
    throw error;
  }
}

/**
 * Makes the folder `path` and those that it lies in, and returns the outermost that was not there; undefined where all
 * were. Throws what the system says. Node's own, with `recursive`, never returns where the current folder was removed,
 * and calls a read-only file system a missing folder.
 */
export function makeFolder(path: string, mode?: number): string | undefined {
  try {
    mkdirSync(path, mode);
    return path;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const parent = dirname(path);
    if (code === 'ENOENT' && parent !== path) {
      const outermost = makeFolder(parent, mode);
      try {
        return makeFolderIn(path, mode) ? (outermost ?? path) : outermost;
      } catch (refused) {
        removeEmpty(parent, outermost);
        throw refused;
      }
    }
    if (isFolder(path)) return undefined;
    throw error;
  }
}

/** False where another process was faster. */
function makeFolderIn(path: string, mode?: number): boolean {
  try {
    mkdirSync(path, mode);
    return true;
  } catch (error) {
    if (isFolder(path)) return false;
    throw error;
  }
}

/** Removes `path` and the folders above it up to `outermost`, as far as they are empty. */
export function removeEmpty(path: string, outermost: string | undefined): void {
  if (outermost === undefined) return;
  try {
    for (let folder = path; folder.startsWith(outermost); folder = dirname(folder)) rmdirSync(folder);
  } catch {
    // Something lies in it.
  }
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

/**
 * Throws what the system says where it is plain already that `path` cannot be made or written: so that nobody waits for
 * work that has no place to go to. A disk that is full shows later.
 */
export function checkWritable(path: string): void {
  if (!isAbsolute(path)) process.cwd();
  let there = path;
  while (!existsSync(there) && dirname(there) !== there) there = dirname(there);
  checkTakesFiles(there);
}

/** Throws what the system says where it is plain that nothing can be made in `folder`, or that it is none. */
export function checkTakesFiles(folder: string): void {
  accessSync(`${folder}/.`, constants.W_OK | constants.X_OK);
}

/** Makes the names in `path` durable. Windows has no such call: there the rename itself is journalled. */
export async function syncDirectory(path: string): Promise<void> {
  if (process.platform === 'win32') return;
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** For the way out of a failure, which a second one must not hide. */
export async function removeQuietly(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true }).catch(() => {});
}

export function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'code' in error && 'syscall' in error;
}

/** LT_SYSTEM for an error of the operating system that nobody gave a meaning; any other error as it is. */
export function systemFailure(error: unknown): unknown {
  if (!isSystemError(error)) return error;
  const where = error.path === undefined ? '' : ` of ${error.path}`;
  return new LantrainError('LT_SYSTEM', `the system refuses ${error.syscall}${where}: ${reason(error)}`, {
    cause: error,
  });
}

/** What the operating system says, with its code, without the call and the path that Node adds to it. */
export function reason(error: unknown): string {
  if (error instanceof LantrainError) return error.message;
  const { code, errno, message } = error as NodeJS.ErrnoException;
  if (!code) return String(message ?? error);
  const words = errno === undefined ? undefined : getSystemErrorMap().get(errno)?.[1];
  const text = words ?? message?.replace(/^[A-Z0-9]+: /, '').replace(/, [a-z_]+( '.*)?$/, '');
  const why = code === 'ENOENT' && isCurrentFolderGone() ? ', as the current folder was removed' : '';
  return text ? `${text} (${code})${why}` : code;
}

function isCurrentFolderGone(): boolean {
  try {
    process.cwd();
    return false;
  } catch {
    return true;
  }
}
