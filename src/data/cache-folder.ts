import { readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { LantrainError } from '../errors.js';
import { makeFolder, reason, removeQuietly, replaceFile } from '../files/files.js';
import { lstatIfThere } from '../files/own-files.js';
import { baseOfTemporary, PARTIAL } from '../files/temporary-name.js';

/**
 * The folder of downloads, token caches and tuning results: $LANTRAIN_CACHE, $XDG_CACHE_HOME/lantrain, or the
 * platform's usual folder.
 */
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
 * Writes the cache file `path` whole or not at all; several processes may do so at once. Also removes what a killed
 * process left beside it an hour ago or earlier. Throws LT_RUN_WRITE where the folder cannot be written or the disk is
 * full.
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

/** Suffixes of temporary names, of this version and of 0.1.0. */
const ENDS = [PARTIAL, '.tmp'];

async function removeStale(path: string): Promise<void> {
  for (const name of readdirSync(dirname(path))) {
    if (!ENDS.some((end) => baseOfTemporary(name, end) === basename(path))) continue;
    const file = join(dirname(path), name);
    const stats = lstatIfThere(file);
    if (stats?.isFile() && Date.now() - stats.mtimeMs > STALE_MS) await removeQuietly(file);
  }
}
