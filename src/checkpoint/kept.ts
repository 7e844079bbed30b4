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

/** Writes the checkpoint of a step and then removes all but the newest `keep` that are whole. */
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
 * Removes what a crash left: partial checkpoints, and replaced ones whose successor arrived; one whose successor did not
 * arrive takes its name back. Only for the process that writes the run: a reader would sweep what is being written. Throws
 * LT_RUN_FOREIGN.
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
 * Of the checkpoints before `step`, the newest `keep - 1` that open stay and the older ones go. One that does not open
 * takes no other's place: it is set aside. Throws LT_RUN_WRITE.
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
    // One that holds anything but files of this user's own is none of ours to remove.
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

/** One that this process is kept from counts as whole. */
async function opens(path: string): Promise<boolean> {
  try {
    (await openCheckpoint(path)).close();
    return true;
  } catch (error) {
    return error instanceof LantrainError && isBarred(error);
  }
}

/** The name that a damaged checkpoint gets when it is set aside. */
export function nameAside(path: string): string {
  for (let n = 1; ; n++) {
    const name = path + DAMAGED + (n > 1 ? `-${n}` : '');
    if (!lstatIfThere(name)) return name;
  }
}

/** Takes a damaged checkpoint out of the list without removing it. Throws LT_RUN_WRITE. */
export async function setAside(path: string): Promise<void> {
  try {
    await rename(path, nameAside(path));
  } catch (error) {
    throw writeFailure(path, error);
  }
}
