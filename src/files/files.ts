import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  fchmodSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  rmdirSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { type FileHandle, open, rename, rmdir, unlink } from 'node:fs/promises';
import { dirname, isAbsolute, join } from 'node:path';
import { checkFileAt, checkOwn, checkOwnAt, lstatIfThere, NEW_FILE } from './own-files.js';
import { temporaryName } from './temporary-name.js';

export { isSystemError, reason, systemFailure } from './system-errors.js';

/**
 * Writes and removes the files that the program keeps: runs, exports, caches, reports, secrets. Where a path itself is
 * a link, no function here follows it. own-files.ts says what may lie at a path.
 */

/**
 * Writes the file `path` whole or not at all. `fill` writes a new file under another name in the same folder, which is
 * then fsynced and renamed. On any failure the old file stays and the temporary one is removed. A link at `path` is
 * replaced, not followed. The file has the permissions `mode` from the beginning.
 */
export async function replaceFile(
  path: string,
  fill: (file: FileHandle) => void | Promise<void>,
  mode?: number,
): Promise<void> {
  const temporary = temporaryName(path);
  const file = await open(temporary, NEW_FILE, mode);
  try {
    try {
      await fill(file);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
    await syncDirectory(dirname(path));
  } catch (error) {
    await unlink(temporary).catch(() => {});
    throw error;
  }
}

/**
 * As `replaceFile`, for a file within a run. Throws LT_RUN_FOREIGN where `path` is something else than a file of this
 * user.
 */
export async function replaceOwn(
  path: string,
  fill: (file: FileHandle) => void | Promise<void>,
  mode?: number,
): Promise<void> {
  checkFileAt(path, { isLinkable: true });
  await replaceFile(path, fill, mode);
}

/** Makes a new file. Throws the system's error and leaves no file; EEXIST where anything lies at `path`. */
export function createFile(path: string, text: string, mode?: number): void {
  const fd = openSync(path, NEW_FILE, mode);
  try {
    writeFileSync(fd, text);
  } catch (error) {
    unlinkSync(path);
    throw error;
  } finally {
    closeSync(fd);
  }
}

/**
 * As `makeFolder`, but an existing folder gets the permissions `mode`. Throws LT_RUN_FOREIGN where `path` is not a
 * folder of this user.
 */
export function makeOwnFolder(path: string, mode?: number): void {
  if (!checkOwnAt(path, { kind: 'folder' })) makeFolder(path, mode);
  checkOwnAt(path, { kind: 'folder' });
  // Windows has no such permissions and cannot open folders.
  if (mode === undefined || process.platform === 'win32') return;
  const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants;
  const fd = openSync(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  try {
    checkOwn(path, fstatSync(fd), { kind: 'folder' });
    fchmodSync(fd, mode);
  } finally {
    closeSync(fd);
  }
}

/**
 * Makes the folder `path` and its missing parents. Returns the outermost folder that it made; undefined where all
 * existed. Throws the system's error. Node's `recursive` option is not used: it never returns where the current folder
 * was removed, and reports a read-only file system as a missing folder.
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

/** Makes a folder whose parent exists; false where another process was faster. */
function makeFolderIn(path: string, mode?: number): boolean {
  try {
    mkdirSync(path, mode);
    return true;
  } catch (error) {
    if (isFolder(path)) return false;
    throw error;
  }
}

/** Removes `path` and its parents up to `outermost`, as far as they are empty. Never throws. */
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
 * Throws the system's error where `path` clearly cannot be made or written, before long work whose result would go
 * there. A full disk is not detected.
 */
export function checkWritable(path: string): void {
  if (!isAbsolute(path)) process.cwd();
  let there = path;
  while (!existsSync(there) && dirname(there) !== there) there = dirname(there);
  checkTakesFiles(there);
}

/** Throws the system's error where `folder` is not a folder or nothing can be made in it. */
export function checkTakesFiles(folder: string): void {
  accessSync(`${folder}/.`, constants.W_OK | constants.X_OK);
}

/** Makes the names in the folder `path` durable. Windows has no such call, and journals the rename itself. */
export async function syncDirectory(path: string): Promise<void> {
  if (process.platform === 'win32') return;
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/**
 * Removes a file of this user, or a folder of this user that holds only such files. Throws LT_RUN_FOREIGN, and removes
 * nothing, where anything else lies there.
 */
export async function removeOwn(path: string): Promise<void> {
  const { folder, files } = listRemovable(path);
  for (const file of files) await unlink(file);
  if (folder !== undefined) await rmdir(folder);
}

/** Whether `removeOwn` would remove what lies at `path`. */
export function isRemovable(path: string): boolean {
  try {
    listRemovable(path);
    return true;
  } catch {
    return false;
  }
}

function listRemovable(path: string): { readonly folder?: string; readonly files: readonly string[] } {
  const stats = lstatIfThere(path);
  if (stats === undefined) return { files: [] };
  checkOwn(path, stats, { kind: 'either', isLinkable: true });
  if (!stats.isDirectory()) return { files: [path] };
  const files = readdirSync(path).map((name) => join(path, name));
  for (const file of files) checkOwn(file, lstatSync(file), { isLinkable: true });
  return { folder: path, files };
}

/** As `removeOwn`, but never throws: for use after a failure, which a second one must not hide. */
export async function removeQuietly(path: string): Promise<void> {
  await removeOwn(path).catch(() => {});
}
