import { readdirSync, realpathSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { removeQuietly } from '../files/files.js';
import { checkOwn, type Kind, lstatIfThere } from '../files/own-files.js';
import { isSystemError } from '../files/system-errors.js';
import { baseOfTemporary, PARTIAL } from '../files/temporary-name.js';

export const CONFIG_NAME = 'config.json';
/** The file that names the process that writes a run. Readers ignore it. */
export const LOCK_NAME = 'lock';
export const CHECKPOINTS_FOLDER = 'checkpoints';
/** The folder for a run's tokens, certificate and port: readable by its owner only, never part of reports. */
export const ACCESS_FOLDER = 'cluster';

/** Files of a run that are replaced whole. */
const REPLACED_FILES: ReadonlySet<string> = new Set([
  CONFIG_NAME,
  'metrics.jsonl',
  'samples.txt',
  'loss.svg',
  'report.html',
]);

/** The real path of a folder that the user names. Links on the way to it are the user's own and are followed once. */
export function rootOf(path: string): string {
  const real = realpathSync(path);
  return real === resolve(path) ? path : real;
}

/**
 * Called before anything of a run is written or removed. Throws LT_RUN_FOREIGN where something below `root` is not a
 * file or folder of this user, or is of the wrong kind. Folders of other names are not examined, because nothing in
 * them is touched.
 */
export function checkTree(root: string): void {
  // Our own names are checked as well: a file system may treat different spellings as one name.
  const names = new Set([...namesIn(root), ...REPLACED_FILES, LOCK_NAME, CHECKPOINTS_FOLDER, ACCESS_FOLDER]);
  for (const name of names) {
    const path = join(root, name);
    if (!check(path, kindInRun(name), name === LOCK_NAME || baseOfTemporary(name) === LOCK_NAME)) continue;
    if (name === ACCESS_FOLDER) for (const secret of namesIn(path)) check(join(path, secret), 'file');
    if (name !== CHECKPOINTS_FOLDER) continue;
    for (const checkpoint of namesIn(path)) {
      const folder = join(path, checkpoint);
      if (!check(folder, /^\d+$/.test(checkpoint) ? 'folder' : 'either')) continue;
      for (const file of namesIn(folder)) check(join(folder, file), 'either');
    }
  }
}

function kindInRun(name: string): Kind {
  if (REPLACED_FILES.has(name) || name === LOCK_NAME) return 'file';
  return name === CHECKPOINTS_FOLDER || name === ACCESS_FOLDER ? 'folder' : 'either';
}

/**
 * Checks what lies at `path`; true for a folder. `isLinkable`: a lock has a second name while it is made, and is never
 * written in place.
 */
function check(path: string, kind: Kind, isLinkable = false): boolean {
  const stats = lstatIfThere(path);
  if (stats === undefined) return false;
  checkOwn(path, stats, { kind, isLinkable });
  return stats.isDirectory();
}

/** The names in a folder, sorted so that the same fault is told each time; empty where the folder is gone. */
function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch (error) {
    if (isSystemError(error) && error.code === 'ENOENT') return [];
    throw error;
  }
}

/** Removes temporary files that a crash left. Temporary locks stay: other processes may be making them. */
export async function sweepFiles(root: string): Promise<void> {
  for (const name of namesIn(root)) {
    const base = baseOfTemporary(name);
    if (base !== undefined && REPLACED_FILES.has(base)) await removeQuietly(join(root, name));
  }
}

/** Whether a folder holds at most what a crash left of a new run: a lock and partial files. */
export function isFree(root: string): boolean {
  return readdirSync(root).every((name) => name === LOCK_NAME || name.endsWith(PARTIAL));
}

/** Removes a run that never began: only what this program has written. */
export async function removeTree(root: string): Promise<void> {
  for (const name of namesIn(root)) {
    const path = join(root, name);
    if (name === CHECKPOINTS_FOLDER && lstatIfThere(path)?.isDirectory())
      for (const one of namesIn(path)) await removeQuietly(join(path, one));
    const isOurs = name === CHECKPOINTS_FOLDER || name === ACCESS_FOLDER;
    if (isOurs || REPLACED_FILES.has(baseOfTemporary(name) ?? name)) await removeQuietly(path);
  }
}
