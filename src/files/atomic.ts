import { statSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { LantrainError } from '../errors.js';
import { checkTakesFiles, isSystemError, reason, replaceFile, replaceOwn } from './files.js';

/** Writes the file `path` whole or not at all, as `replaceFile` does. Throws LT_RUN_WRITE where the system refuses. */
export async function writeWhole(path: string, fill: (file: FileHandle) => Promise<void>): Promise<void> {
  try {
    await replaceFile(path, fill);
  } catch (error) {
    throw writeFailure(path, error);
  }
}

export function writeText(path: string, text: string): Promise<void> {
  return writeWhole(path, (file) => file.writeFile(text));
}

/** As `writeText`, for a file within a run. Also throws LT_RUN_FOREIGN, as `replaceOwn` does. */
export async function writeOwnText(path: string, text: string): Promise<void> {
  try {
    await replaceOwn(path, (file) => file.writeFile(text));
  } catch (error) {
    throw writeFailure(path, error);
  }
}

/** For a file that is written after long work: throws LT_RUN_WRITE where `path` clearly cannot be written. */
export function checkWritableFile(path: string): void {
  try {
    const stats = statSync(path, { throwIfNoEntry: false });
    if (stats?.isDirectory()) throw new LantrainError('LT_RUN_WRITE', `cannot write ${path}: it is a folder`);
    // A device would be replaced by a file.
    if (stats && !stats.isFile())
      throw new LantrainError('LT_RUN_WRITE', `cannot write ${path}: it is a device or a pipe; name a file`);
    checkTakesFiles(dirname(path));
  } catch (error) {
    throw writeFailure(path, error);
  }
}

/** LT_RUN_WRITE for an error of the operating system; any other error as it is. */
export function writeFailure(path: string, error: unknown): unknown {
  if (!isSystemError(error)) return error;
  return new LantrainError('LT_RUN_WRITE', `cannot write ${path}: ${reason(error)}`, { cause: error });
}
