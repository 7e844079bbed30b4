import { readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { LantrainError } from '../errors.js';
import { makeFolder, reason, removeQuietly, replaceFile } from '../files/files.js';
import { lstatIfThere } from '../files/own-files.js';
import { baseOfTemporary, PARTIAL } from '../files/temporary-name.js';

/** Where downloads and token caches live: $LANTRAIN_CACHE, $XDG_CACHE_HOME/lantrain, or the platform's own place. */
export function cacheFolder(): string {
  const { LANTRAIN_CACHE, XDG_CACHE_HOME, LOCALAPPDATA } = process.env;
  if (LANTRAIN_CACHE) return LANTRAIN_CACHE;
  if (XDG_CACHE_HOME) return join(XDG_CACHE_HOME, 'lantrain');
  if (process.platform === 'darwin') return join(homedir(), 'Library', 'Caches', 'lantrain');
  if (process.platform === 'win32') return join(LOCALAPPDATA ?? join(homedir(), 'AppData', 'Local'), 'lantrain');
  return join(homedir(), '.cache', 'lantrain');
}

const STALE_MS = 3_600_000;

/**
 * Writes the file `path` whole or not at all, by a name of its own, as several processes may write it at once. What a
 * killed one left behind an hour ago or earlier is removed. Throws LT_RUN_WRITE where the folder cannot be written or
 * the disk is full.
 */
export async function writeCacheFile(path: string, fill: (fd: number) => void | Promise<void>): Promise<void> {
  try {
    makeFolder(dirname(path));
    await removeStale(path);
    await replaceFile(path, ({ fd }) => fill(fd));
  } catch (error) {
    if (error instanceof LantrainError || !(error as NodeJS.ErrnoException).code) throw error;
    throw new LantrainError(
      'LT_RUN_WRITE',
      `cannot write the cache file ${path}: ${reason(error)}; free some space or set LANTRAIN_CACHE to a folder ` +
        'that can be written',
      { cause: error },
    );
  }
}

/** The ends of the names under which this version and 0.1.0 write a file. */
const ENDS = [PARTIAL, '.tmp'];

async function removeStale(path: string): Promise<void> {
  for (const name of readdirSync(dirname(path))) {
    if (!ENDS.some((end) => baseOfTemporary(name, end) === basename(path))) continue;
    const file = join(dirname(path), name);
    const stats = lstatIfThere(file);
    if (stats?.isFile() && Date.now() - stats.mtimeMs > STALE_MS) await removeQuietly(file);
  }
}
