import { linkSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { hostname } from 'node:os';
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { LantrainError } from '../errors.js';
import { writeFailure } from '../files/atomic.js';
import { createFile, isSystemError } from '../files/files.js';
import { readOwn } from '../files/own-files.js';
import { readRegular } from '../files/regular-file.js';
import { temporaryName } from '../files/temporary-name.js';
import { LOCK_NAME } from './tree.js';

const MOST_TRIES = 100;
const MOST_BYTES = 2 ** 16;

const Holder = z.object({
  pid: z.number().int().positive(),
  host: z.string(),
  /** The machine's boot and the process's start, empty where unknown: process ids are reused. */
  boot: z.string(),
  start: z.string(),
});
type Holder = z.infer<typeof Holder>;

/**
 * The file `lock` in a run's folder: only one process writes a run. It is written under another name and then linked,
 * so it appears whole, and only one of several processes gets it. A lock whose process is gone is taken over.
 */
export class RunLock {
  private constructor(private readonly path: string) {}

  /**
   * Takes the lock of the folder `dir`. Throws LT_RUN_LOCKED where a process holds it, LT_RUN_WRITE where the system
   * refuses, LT_RUN_FOREIGN where its file is not this user's own.
   */
  static take(dir: string): RunLock {
    const path = join(dir, LOCK_NAME);
    const mine = JSON.stringify(SELF);
    try {
      for (let tries = 1; !createWhole(path, mine); tries++) {
        const found = readLock(path);
        if (found === undefined) {
          // Its holder has just released it, which does not happen many times in a row.
          if (tries < MOST_TRIES) continue;
          throw new LantrainError('LT_RUN_WRITE', `cannot write ${path}: what lies there cannot be read; remove it`);
        }
        if (found === mine) {
          refuseHeld(dir, path);
          break;
        }
        refuseLiving(dir, found);
        remove(path, found);
      }
    } catch (error) {
      throw writeFailure(path, error);
    }
    if (held.size === 0) process.on('exit', releaseAll);
    held.add(path);
    return new RunLock(path);
  }

  /** Throws LT_RUN_LOCKED where another process holds the lock of `dir`. */
  static check(dir: string): void {
    const found = readLock(join(dir, LOCK_NAME));
    if (found !== undefined) refuseLiving(dir, found);
  }

  /** For readers: whether a process writes `dir`, this one or another, as far as that can be known. */
  static isHeld(dir: string): boolean {
    const path = resolve(dir, LOCK_NAME);
    if ([...held].some((own) => resolve(own) === path)) return true;
    try {
      const holder = parse(readRegular(path, MOST_BYTES).toString('utf8'));
      return holder !== undefined && mayLive(holder);
    } catch {
      return false;
    }
  }

  release(): void {
    releaseFile(this.path);
  }
}

/** The locks of this process. They are removed when it exits, unless it is killed. */
const held = new Set<string>();

function releaseAll(): void {
  for (const path of held) releaseFile(path);
}

function releaseFile(path: string): void {
  if (!held.delete(path)) return;
  if (held.size === 0) process.off('exit', releaseAll);
  try {
    if (readLock(path) === JSON.stringify(SELF)) rmSync(path);
  } catch {
    // The next process finds it stale.
  }
}

/** Makes the lock; false where one exists. */
function createWhole(path: string, text: string): boolean {
  const temporary = temporaryName(path);
  createFile(temporary, text);
  try {
    linkSync(temporary, path);
    return true;
  } catch (error) {
    if (isSystemError(error) && error.code === 'EEXIST') return false;
    return createWithoutLinks(path, text);
  } finally {
    rmSync(temporary, { force: true });
  }
}

/** For file systems without hard links. There a reader may see a half-written lock. */
function createWithoutLinks(path: string, text: string): boolean {
  try {
    createFile(path, text);
    return true;
  } catch (error) {
    if (isSystemError(error) && error.code === 'EEXIST') return false;
    throw error;
  }
}

/** Removes the lock if its text is still `stale`: a faster process may have made another one by now. */
function remove(path: string, stale: string): void {
  const moved = temporaryName(path);
  try {
    renameSync(path, moved);
  } catch (error) {
    if (isSystemError(error) && error.code === 'ENOENT') return;
    throw error;
  }
  try {
    if (readLock(moved) !== stale) linkSync(moved, path);
  } finally {
    rmSync(moved, { force: true });
  }
}

/** A lock may have a second name: the one that it was made under. */
function readLock(path: string): string | undefined {
  return readOwn(path, MOST_BYTES, { isLinkable: true });
}

/** Throws LT_RUN_LOCKED where another run of this process holds the lock. */
function refuseHeld(dir: string, path: string): void {
  if (!held.has(path)) return;
  throw new LantrainError(
    'LT_RUN_LOCKED',
    `${dir} is being written by another run of this process; wait for its end or choose another --out`,
  );
}

/** Throws LT_RUN_LOCKED where the process that the lock names may be alive. A damaged lock names none. */
function refuseLiving(dir: string, text: string): void {
  const holder = parse(text);
  if (holder === undefined || !mayLive(holder)) return;
  const { pid, host } = holder;
  const elsewhere = host === SELF.host ? '' : `; if that process is gone, remove ${join(dir, LOCK_NAME)}`;
  throw new LantrainError(
    'LT_RUN_LOCKED',
    `${dir} is being written by process ${pid} on ${host}; wait for its end or choose another --out${elsewhere}`,
  );
}

function parse(text: string): Holder | undefined {
  try {
    return Holder.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}

/** Whether the process may be alive. One of another machine counts as alive, because nothing is known of it. */
function mayLive({ pid, host, boot, start }: Holder): boolean {
  if (host !== SELF.host) return true;
  if (boot !== SELF.boot) return false;
  if (pid === SELF.pid) return false;
  try {
    process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
  return start === startOf(pid);
}

/**
 * Field 22 of /proc/<pid>/stat, which follows a name in brackets that may hold any text. A process that has ended is
 * listed until its parent waits for it; its start is then 'ended', which no lock has.
 */
function startOf(pid: number): string {
  const stat = readIfThere(`/proc/${pid}/stat`);
  const [state, ...fields] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return state === 'Z' || state === 'X' ? 'ended' : (fields[18] ?? '');
}

function readIfThere(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return '';
  }
}

const SELF: Holder = {
  pid: process.pid,
  host: hostname(),
  boot: readIfThere('/proc/sys/kernel/random/boot_id'),
  start: startOf(process.pid),
};
