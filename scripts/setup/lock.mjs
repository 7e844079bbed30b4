/** A lock: one set-up of a checkout at a time. */
import fs from 'node:fs';
import path from 'node:path';
import { cleanups, root, say } from './process.mjs';

const beatMs = 2000;
const staleMs = 15000;
const pollMs = 200;

/**
 * Runs `work` while no other set-up of this checkout runs. The holder renews the lock's time, so the lock of a dead
 * process is recognized by its age, on any machine or container.
 */
export async function withLock(work) {
  const lock = path.join(root, 'dist', '.setup-lock');
  await take(lock);
  const release = () => fs.rmSync(lock, { force: true });
  cleanups.add(release);
  const beat = setInterval(() => {
    try {
      fs.utimesSync(lock, new Date(), new Date());
    } catch {
      // Somebody removed dist/. The work itself fails if that matters.
    }
  }, beatMs);
  try {
    await work();
  } finally {
    clearInterval(beat);
    cleanups.delete(release);
    release();
  }
}

async function take(lock) {
  fs.mkdirSync(path.dirname(lock), { recursive: true });
  for (let waited = false; ; waited = true) {
    try {
      fs.writeFileSync(lock, '', { flag: 'wx' });
      return;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
    if (!waited) say('another set-up is at work in this folder: waiting for it');
    try {
      if (Date.now() - fs.statSync(lock).mtimeMs > staleMs) fs.rmSync(lock, { force: true });
    } catch {
      // Its holder has just released it.
    }
    await new Promise((resolve) => setTimeout(resolve, pollMs));
  }
}
