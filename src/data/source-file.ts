import { closeSync, fstatSync, readSync, type Stats, statSync } from 'node:fs';
import { LantrainError } from '../errors.js';
import { reason } from '../files/files.js';
import { openRegular } from '../files/regular-file.js';

/** A file when the corpus was resolved. Later reads check that it has not changed. */
export interface SourceFile {
  readonly path: string;
  readonly bytes: number;
  readonly modifiedMs: number;
}

/** Named corpora. A file of the same name is given as `./name`. */
export const NAMED_CORPORA = ['moby-dick', 'verdict'] as const;

export function sourceFile(path: string): SourceFile {
  const stats = look(path);
  return { path, bytes: stats.size, modifiedMs: stats.mtimeMs };
}

export function look(path: string): Stats {
  try {
    return statSync(path);
  } catch (error) {
    throw unreadable(path, error);
  }
}

/** The error for a path that the operating system does not let us examine, list, open or read. */
export function unreadable(path: string, error: unknown): LantrainError {
  const { code } = error as NodeJS.ErrnoException;
  const message =
    code === 'ENOENT' || code === 'ENOTDIR'
      ? `there is no file or folder ${path}: --data takes a path, or one of the names ${NAMED_CORPORA.join(', ')}`
      : `cannot read ${path}: ${reason(error)}; check its permissions, or give --data another path`;
  return new LantrainError('LT_DATA_MISSING', message, { cause: error });
}

/** Opens the file and checks that it has not changed since the corpus was resolved. Throws as chunksOf does. */
export function openForReading(file: SourceFile): number {
  let fd: number;
  try {
    fd = openRegular(file.path).fd;
  } catch (error) {
    throw unreadable(file.path, error);
  }
  try {
    checkUnchanged(fd, file);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return fd;
}

export function checkUnchanged(fd: number, file: SourceFile): void {
  const now = fstatSync(fd);
  if (now.size !== file.bytes || now.mtimeMs !== file.modifiedMs) throw changed(file);
}

/** Fills `into` from byte `position` on. Throws LT_DATA_CORRUPT where the file ends before that. */
export function readFully(fd: number, into: Uint8Array, position: number, file: SourceFile): void {
  for (let done = 0; done < into.length; ) {
    let got: number;
    try {
      got = readSync(fd, into, done, into.length - done, position + done);
    } catch (error) {
      throw unreadable(file.path, error);
    }
    if (got === 0) throw changed(file);
    done += got;
  }
}

function changed(file: SourceFile): LantrainError {
  return new LantrainError('LT_DATA_CORRUPT', `${file.path} changed while it was being read: start again`);
}
