import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { LantrainError } from '../errors.js';

/** The end of a name that is being written or removed. Nothing that ends so is ever read. */
export const PARTIAL = '.partial';

/**
 * Writes the file `path` whole or not at all: `fill` writes to a temporary name beside it, which is fsynced and renamed.
 * Whatever goes wrong, the old file stands and the temporary is removed. Throws LT_RUN_WRITE where the system refuses.
 */
export async function writeWhole(path: string, fill: (file: FileHandle) => Promise<void>): Promise<void> {
  const temporary = path + PARTIAL;
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
    throw writeFailure(path, error);
  }
}

export function writeText(path: string, text: string): Promise<void> {
  return writeWhole(path, (file) => file.writeFile(text));
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

/** LT_RUN_WRITE for an error of the operating system; any other error as it is. */
export function writeFailure(path: string, error: unknown, consequence = ''): unknown {
  if (!isSystemError(error)) return error;
  return new LantrainError('LT_RUN_WRITE', `cannot write ${path}: ${reason(error)}${consequence}`, { cause: error });
}

/** For the way out of a failure, which a second one must not hide. */
export async function removeQuietly(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true }).catch(() => {});
}

export function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'code' in error && 'syscall' in error;
}

/** What the operating system says, with its code, without the call and the path that Node adds to it. */
export function reason(error: NodeJS.ErrnoException): string {
  const text = error.message.replace(/^[A-Z0-9]+: /, '').replace(/, [a-z]+( '.*)?$/, '');
  return `${text} (${error.code})`;
}
