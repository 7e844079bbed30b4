import { rename } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { LantrainError } from '../errors.js';
import { writeFailure } from '../files/atomic.js';
import { isRemovable, removeQuietly } from '../files/files.js';
import { checkOwnAt, lstatIfThere } from '../files/own-files.js';
import { baseOfTemporary, temporaryName } from '../files/temporary-name.js';
import {
  entries,
  isBarred,
  listCheckpoints,
  type NewCheckpoint,
  openCheckpoint,
  REPLACED,
  writeCheckpoint,
} from './checkpoint.js';

const DAMAGED = '.damaged';

/** Writes the checkpoint of a step, then removes all but the newest `keep` whole ones. */
export async function writeAndPrune(
  dir: string,
  next: NewCheckpoint,
  keep: number,
): Promise<{ path: string; digest: string }> {
  const written = await writeCheckpoint(dir, next);
  await pruneCheckpoints(dir, next.step, keep);
  return written;
}

/**
 * Cleans up after a crash. Removes partial checkpoints. Removes a checkpoint that was being replaced if the new one is in
 * place, and gives it its name back if not. Only the process that writes the run may call it. Throws LT_RUN_FOREIGN
 * where the folder is not this user's own.
 */
export async function sweepCheckpoints(dir: string): Promise<void> {
  checkOwnAt(dir, { kind: 'folder' });
  for (const entry of entries(dir)) {
    const { name } = entry;
    const path = join(dir, name);
    if (isStep(baseOfTemporary(name))) await removeQuietly(path);
    const original = baseOfTemporary(name, REPLACED);
    if (original === undefined || !isStep(original) || !entry.isDirectory()) continue;
    if (lstatIfThere(join(dir, original))) await removeQuietly(path);
    else await rename(path, join(dir, original));
  }
}

function isStep(name: string | undefined): boolean {
  return name !== undefined && /^\d+$/.test(name);
}

/**
 * Keeps the newest `keep - 1` checkpoints before `step` that open, and removes older ones. One that does not open does
 * not count and is set aside. Throws LT_RUN_WRITE.
 */
async function pruneCheckpoints(dir: string, step: number, keep: number): Promise<void> {
  let stays = keep - 1;
  for (const { path } of listCheckpoints(dir).reverse()) {
    if (Number(basename(path)) >= step) continue;
    if (stays > 0) {
      if (await opens(path)) stays--;
      else await setAside(path);
      continue;
    }
    // A folder with anything but this user's own files is left alone.
    if (!isRemovable(path)) continue;
    const going = temporaryName(path);
    try {
      await rename(path, going);
    } catch (error) {
      throw writeFailure(path, error);
    }
    await removeQuietly(going);
  }
}

/** Whether a checkpoint opens. One that this process is not allowed to read counts as whole. */
async function opens(path: string): Promise<boolean> {
  try {
    (await openCheckpoint(path)).close();
    return true;
  } catch (error) {
    return error instanceof LantrainError && isBarred(error);
  }
}

/** The path that a damaged checkpoint gets when it is set aside. */
export function nameAside(path: string): string {
  for (let n = 1; ; n++) {
    const name = path + DAMAGED + (n > 1 ? `-${n}` : '');
    if (!lstatIfThere(name)) return name;
  }
}

/** Renames a damaged checkpoint, so that it is not listed any more. Throws LT_RUN_WRITE. */
export async function setAside(path: string): Promise<void> {
  try {
    await rename(path, nameAside(path));
  } catch (error) {
    throw writeFailure(path, error);
  }
}
