import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { getSystemErrorMap } from 'node:util';

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

/** What the operating system says, with its code, without the call and the path that Node adds to it. */
export function reason(error: unknown): string {
  const { code, errno, message } = error as NodeJS.ErrnoException;
  if (!code) return String(message ?? error);
  const words = errno === undefined ? undefined : getSystemErrorMap().get(errno)?.[1];
  if (words) return `${words} (${code})`;
  const text = message?.replace(/^[A-Z0-9]+: /, '').replace(/, [a-z]+( '.*)?$/, '');
  return text ? `${text} (${code})` : code;
}
