/**
 * Preloaded by `node --import` into a process and its threads: a disk on which every write of a file takes
 * SLOW_DISK_MS and every fsync SLOW_SYNC_MS, and which is full after SLOW_DISK_BYTES written by one thread.
 */
import { open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { threadId } from 'node:worker_threads';

const delayMs = Number(process.env.SLOW_DISK_MS ?? 0);
let left = Number(process.env.SLOW_DISK_BYTES ?? Number.POSITIVE_INFINITY);

const probe = join(tmpdir(), `lantrain-slow-disk-${process.pid}-${threadId}`);
const file = await open(probe, 'w');
const FileHandle = Object.getPrototypeOf(file);
await file.close();
await rm(probe);

const { write, sync } = FileHandle;
const syncMs = Number(process.env.SLOW_SYNC_MS ?? 0);
if (syncMs > 0)
  FileHandle.sync = async function () {
    await new Promise((resolve) => setTimeout(resolve, syncMs));
    return sync.call(this);
  };

FileHandle.write = async function (bytes, from, count, ...rest) {
  await new Promise((resolve) => setTimeout(resolve, delayMs));
  left -= count;
  if (left < 0)
    throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC', syscall: 'write' });
  return write.call(this, bytes, from, count, ...rest);
};
