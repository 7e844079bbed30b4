import { readdirSync, realpathSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { removeQuietly } from '../files/files.js';
import { checkOwn, type Kind, lstatIfThere } from '../files/own-files.js';
import { isSystemError } from '../files/system-errors.js';
import { baseOfTemporary, PARTIAL } from '../files/temporary-name.js';

export const CONFIG_NAME = 'config.json';
/** Names the process that writes a run. Readers do not wait for it. */
export const LOCK_NAME = 'lock';
export const CHECKPOINTS_FOLDER = 'checkpoints';
/** Where a run keeps tokens, certificate and port: readable by the owner only, never part of reports. */
export const ACCESS_FOLDER = 'cluster';

/** The files of a run that are replaced whole. */
const REPLACED_FILES: ReadonlySet<string> = new Set([
  CONFIG_NAME,
  'metrics.jsonl',
  'samples.txt',
  'loss.svg',
  'report.html',
]);

/** Where the directory that a user names leads: links on the way to it are the user's own and are followed once. */
export function rootOf(path: string): string {
  const real = realpathSync(path);
  return real === resolve(path) ? path : real;
}

/**
 * Before anything of a run is written, swept or removed: throws LT_RUN_FOREIGN where something lies below it that is no
 * file or folder of this user's own, or another kind than belongs there. What lies in folders of other names is not
 * looked at, for nothing there is touched.
 */
export function checkTree(root: string): void {
  // By our own names as well: a file system may take names for the same that the text does not.
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

/** Whether a folder lies at `path`. A lock has a second name while it is made; it is never written in place. */
function check(path: string, kind: Kind, isLinkable = false): boolean {
  const stats = lstatIfThere(path);
  if (stats === undefined) return false;
  checkOwn(path, stats, { kind, isLinkable });
  return stats.isDirectory();
}

/** Sorted, so that the same fault is told each time. None of a folder that is gone by now. */
function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch (error) {
    if (isSystemError(error) && error.code === 'ENOENT') return [];
    throw error;
  }
}

/** Removes what a crash left of the files that are replaced; not locks, which other processes may be making. */
export async function sweepFiles(root: string): Promise<void> {
  for (const name of namesIn(root)) {
    const base = baseOfTemporary(name);
    if (base !== undefined && REPLACED_FILES.has(base)) await removeQuietly(join(root, name));
  }
}

/** Whether nothing lies in a folder but what a crash left of a run in the making. */
export function isFree(root: string): boolean {
  return readdirSync(root).every((name) => name === LOCK_NAME || name.endsWith(PARTIAL));
}

/** Removes a run that never began: all that the program has written, and nothing else. */
export async function removeTree(root: string): Promise<void> {
  for (const name of namesIn(root)) {
    const path = join(root, name);
    if (name === CHECKPOINTS_FOLDER && lstatIfThere(path)?.isDirectory())
      for (const one of namesIn(path)) await removeQuietly(join(path, one));
    const isOurs = name === CHECKPOINTS_FOLDER || name === ACCESS_FOLDER;
    if (isOurs || REPLACED_FILES.has(baseOfTemporary(name) ?? name)) await removeQuietly(path);
  }
}
