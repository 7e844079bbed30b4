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
 * All writing and removing of files that the program keeps: runs, exports, caches, reports, secrets. Nothing here follows
 * a link that lies at the name itself; own-files.ts says what may lie there.
 */

/**
 * Writes the file `path` whole or not at all: `fill` writes to a new file of another name in the same folder, which is
 * fsynced and renamed. Whatever goes wrong, the old file stands and the temporary is removed. A link at `path` is
 * replaced, not followed. `mode` is the file's from its first moment on.
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

/** As `replaceFile`, below a run. Throws LT_RUN_FOREIGN where something is in the way that is no file of this user's own. */
export async function replaceOwn(
  path: string,
  fill: (file: FileHandle) => void | Promise<void>,
  mode?: number,
): Promise<void> {
  checkFileAt(path, { isLinkable: true });
  await replaceFile(path, fill, mode);
}

/** Makes a file that is not there yet. Throws what the system says, EEXIST where anything is at `path`; then makes none. */
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
 * As `makeFolder`, and one that is there already gets the permissions `mode`. Throws LT_RUN_FOREIGN where that is no folder
 * of this user's own.
 */
export function makeOwnFolder(path: string, mode?: number): void {
  if (!checkOwnAt(path, { kind: 'folder' })) makeFolder(path, mode);
  checkOwnAt(path, { kind: 'folder' });
  // Windows has neither these permissions nor folders that can be opened.
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

/**
 * Removes a file of this user's own, or a folder of it that holds nothing but such files. Throws LT_RUN_FOREIGN where it
 * is, or holds, anything else; then nothing is removed.
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

/** As `removeOwn`, for the way out of a failure, which a second one must not hide. What is not ours stays. */
export async function removeQuietly(path: string): Promise<void> {
  await removeOwn(path).catch(() => {});
}
