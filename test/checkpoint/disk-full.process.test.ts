import { execFileSync } from 'node:child_process';
import fs, { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import files from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { RunDirectory } from '../../src/checkpoint/run.js';
import { systemFailure } from '../../src/files/files.js';
import { readMetrics } from '../../src/report/metrics.js';
import { exportModel } from '../../src/run/export-model.js';
import { replaceBuiltin } from '../replace-builtin.js';
import { failure, scratch, state, TINY } from './helpers.js';

/** The disk takes `space.left` more bytes through file handles, then says that it is full. */
const space = { left: Number.POSITIVE_INFINITY };
const full = () =>
  Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC', syscall: 'write' });
const { open } = files;
replaceBuiltin(files, {
  async open(...args) {
    const file = await open(...args);
    const take = (bytes: number) => {
      space.left -= bytes;
      if (space.left < 0) throw full();
    };
    const write = file.write as (bytes: Uint8Array, from: number, count: number) => Promise<unknown>;
    const { writeFile } = file;
    file.write = ((bytes: Uint8Array, from: number, count: number) => {
      take(count);
      return write.call(file, bytes, from, count);
    }) as typeof file.write;
    file.writeFile = (text, ...rest) => {
      take(String(text).length);
      return writeFile.call(file, text, ...rest);
    };
    return file;
  },
});

/** The same for synchronous writes, which write as much as there is room for. */
const lines = { left: Number.POSITIVE_INFINITY };
const { writeSync } = fs;
function writeWhatFits(fd: number, bytes: Uint8Array, from = 0, count = bytes.length - from): number {
  if (lines.left === 0) throw full();
  const written = writeSync(fd, bytes, from, Math.min(count, lines.left));
  lines.left -= written;
  return written;
}
replaceBuiltin(fs, { writeSync: writeWhatFits as typeof fs.writeSync });

const CONFIG = { version: '0.1.0', model: TINY };
const next = (step: number) => ({ model: TINY, step, version: '0.1.0', tokensSeen: 0, read: state(TINY, step) });

test('a disk that fills up anywhere in a checkpoint leaves the last good one', async () => {
  const run = await RunDirectory.create(join(scratch(), 'run'), CONFIG);
  space.left = 0;
  await failure('LT_RUN_WRITE', () => run.writeCheckpoint(next(1)));
  expect(readdirSync(run.checkpoints)).toEqual([]);
  space.left = Number.POSITIVE_INFINITY;
  const { path, digest } = await run.writeCheckpoint(next(2));
  const bytes = readdirSync(path).length;
  expect(bytes).toBe(4);
  for (let full = 0; full < 20_000; full += 1999) {
    space.left = full;
    const message = await failure('LT_RUN_WRITE', () => run.writeCheckpoint(next(4)));
    expect(message).toBe(`cannot write ${join(run.checkpoints, '000004')}: no space left on device (ENOSPC)`);
    expect(readdirSync(run.checkpoints)).toEqual(['000002']);
  }
  space.left = Number.POSITIVE_INFINITY;
  const { found } = await run.latest();
  expect(found?.state).toMatchObject({ step: 2, digest });
  found?.close();
  await run.writeCheckpoint(next(4));
  expect(readdirSync(run.checkpoints)).toEqual(['000002', '000004']);
});

test('an event that has no room leaves no half of it for the next one to go on', async () => {
  const run = await RunDirectory.create(join(scratch(), 'run'), CONFIG);
  const event = (step: number) => ({ event: 'output', step, reason: 'x' });
  run.append(event(1));
  for (const full of [0, 1, 20]) {
    lines.left = full;
    await failure('LT_RUN_WRITE', () => run.append(event(2)));
  }
  lines.left = Number.POSITIVE_INFINITY;
  run.append(event(3));
  expect(readMetrics(join(run.path, 'metrics.jsonl'))).toEqual([event(1), event(3)]);
  run.close();
});

test('a directory that cannot be written is named, and what stands stays', async () => {
  const run = await RunDirectory.create(join(scratch(), 'run'), CONFIG);
  writeFileSync(join(run.checkpoints, '000003.partial'), 'a file in the way is removed');
  await run.writeCheckpoint(next(3));
  mkdirSync(join(run.path, 'metrics.jsonl'));
  expect(await failure('LT_RUN_WRITE', () => run.append({ event: 'step', step: 1 }))).toBe(
    `cannot write ${join(run.path, 'metrics.jsonl')}: illegal operation on a directory (EISDIR)`,
  );
});

test('what the system refuses is one line with its reason, whoever comes upon it', async () => {
  const run = await RunDirectory.create(join(scratch(), 'run'), CONFIG);
  const metrics = join(run.path, 'metrics.jsonl');
  mkdirSync(metrics);
  const why = 'illegal operation on a directory (EISDIR)';
  expect(await failure('LT_RUN_WRITE', () => run.cutBack(1))).toBe(`cannot write ${metrics}: ${why}`);
  const reading = () => {
    try {
      readFileSync(metrics);
    } catch (error) {
      throw systemFailure(error);
    }
  };
  expect(await failure('LT_SYSTEM', reading)).toBe(`the system refuses read: ${why}`);
  const defect = new TypeError('x is not a function');
  expect(systemFailure(defect)).toBe(defect);
});

test('a disk that is full before a run begins, or while it is exported, keeps nothing of either', async () => {
  const dir = scratch();
  space.left = 5;
  const path = join(dir, 'runs', 'a');
  expect(await failure('LT_RUN_WRITE', () => RunDirectory.create(path, CONFIG))).toContain('no space left on device');
  expect(await failure('LT_RUN_WRITE', () => RunDirectory.createFirst([path], CONFIG))).toContain('no space left');
  expect(readdirSync(dir)).toEqual([]);
  space.left = Number.POSITIVE_INFINITY;
  const run = await RunDirectory.create(path, CONFIG);
  const checkpoint = await run.writeCheckpoint(next(1));
  mkdirSync(join(dir, 'mine'));
  // In the weights, and in config.json, which comes after them.
  for (const full of [3000, statSync(join(checkpoint.path, 'model.safetensors')).size])
    for (const out of ['exported', 'deep/exported', 'mine']) {
      space.left = full;
      const exporting = () => exportModel({ run: path, out: join(dir, out) });
      expect(await failure('LT_RUN_WRITE', exporting)).toContain('no space left on device');
      expect(readdirSync(dir)).toEqual(['mine', 'runs']);
      expect(readdirSync(join(dir, 'mine'))).toEqual([]);
    }
  space.left = Number.POSITIVE_INFINITY;
});

test('a small file system that is really full keeps whole checkpoints and no half of one', async ({ skip }) => {
  const mount = scratch();
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=96k', 'tmpfs', mount], { stdio: 'ignore' });
  } catch {
    skip('a tmpfs cannot be mounted here; the tests above inject the same error');
  }
  try {
    const run = await RunDirectory.create(join(mount, 'run'), CONFIG);
    expect((await run.writeCheckpoint(next(1))).path).toContain('000001');
    const message = await failure('LT_RUN_WRITE', async () => {
      for (let step = 2; step < 9; step++) await run.writeCheckpoint(next(step), Number.POSITIVE_INFINITY);
    });
    expect(message).toMatch(/no space left on device \(ENOSPC\)$/);
    expect(readdirSync(run.checkpoints).filter((name) => name.includes('.'))).toEqual([]);
    const { found, warnings } = await run.latest();
    expect(warnings).toEqual([]);
    found?.close();
  } finally {
    execFileSync('umount', [mount]);
  }
});
