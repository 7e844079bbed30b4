import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { RunDirectory } from '../../src/checkpoint/run.js';
import { failure, scratch, TINY } from './helpers.js';

const CONFIG = { version: '0.1.0', model: TINY };
const children: ChildProcess[] = [];
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});

/** Another process that opens the run to write it and stays. `said`: its answer. */
async function other(path: string): Promise<{ readonly child: ChildProcess; readonly said: string }> {
  const module = JSON.stringify(resolve('dist/src/checkpoint/run.js'));
  const script = `
    import(${module}).then(({ RunDirectory }) => RunDirectory.open(${JSON.stringify(path)}, 'write')).then(
      () => { console.log('open'); setInterval(() => {}, 1000); },
      (error) => console.log(error.code + ': ' + error.message));`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  const [text] = await once(child.stdout as NodeJS.ReadableStream, 'data');
  return { child, said: String(text).trim() };
}

async function closedRun(): Promise<string> {
  const run = await RunDirectory.create(join(scratch(), 'run'), CONFIG);
  run.close();
  expect(readdirSync(run.path).sort()).toEqual(['checkpoints', 'config.json']);
  return run.path;
}

test('a run that another process writes is refused by its number and host, and can be read', async () => {
  const path = await closedRun();
  const { child, said } = await other(path);
  expect(said).toBe('open');
  const line = `${path} is being written by process ${child.pid} on ${hostname()}; wait for its end or choose another --out`;
  expect(await failure('LT_RUN_LOCKED', () => RunDirectory.open(path, 'write'))).toBe(line);
  expect(await failure('LT_RUN_LOCKED', () => RunDirectory.checkFree(path))).toBe(line);
  expect(await failure('LT_RUN_LOCKED', () => RunDirectory.create(path, CONFIG))).toBe(line);
  const reader = await RunDirectory.open(path, 'read');
  reader.close();
  expect(existsSync(join(path, 'lock'))).toBe(true);

  child.kill('SIGKILL');
  await once(child, 'exit');
  expect(existsSync(join(path, 'lock'))).toBe(true);
  const run = await RunDirectory.open(path, 'write');
  expect(JSON.parse(readFileSync(join(path, 'lock'), 'utf8'))).toMatchObject({ pid: process.pid, host: hostname() });
  expect((await other(path)).said).toMatch(`LT_RUN_LOCKED: ${path} is being written by process ${process.pid} on `);
  run.close();
  expect((await other(path)).said).toBe('open');
});

test('the lock of another boot, of a number used again, and a damaged one are taken over; not one of another host', async () => {
  const path = await closedRun();
  const lock = join(path, 'lock');
  const { child } = await other(path);
  const holder = JSON.parse(readFileSync(lock, 'utf8'));
  const opens = async (text: string) => {
    writeFileSync(lock, text);
    (await RunDirectory.open(path, 'write')).close();
    expect(existsSync(lock)).toBe(false);
  };
  await opens(JSON.stringify({ ...holder, boot: 'another' }));
  if (process.platform === 'linux') await opens(JSON.stringify({ ...holder, start: '1' }));
  await opens('{"pid": ');
  writeFileSync(lock, JSON.stringify({ ...holder, host: 'elsewhere', boot: 'another' }));
  expect(await failure('LT_RUN_LOCKED', () => RunDirectory.open(path, 'write'))).toContain(
    `process ${child.pid} on elsewhere; wait for its end or choose another --out; if that process is gone, remove ${lock}`,
  );
});

test('of several processes that find a stale lock at once, one gets the run', async () => {
  const path = await closedRun();
  const { child } = await other(path);
  child.kill('SIGKILL');
  await once(child, 'exit');
  const said = (await Promise.all(Array.from({ length: 6 }, () => other(path)))).map((one) => one.said);
  expect(said.filter((text) => text === 'open')).toHaveLength(1);
  expect(said.filter((text) => text.startsWith('LT_RUN_LOCKED'))).toHaveLength(5);
  expect(readdirSync(path).sort()).toEqual(['checkpoints', 'config.json', 'lock']);
});

test.skipIf(process.platform === 'win32')(
  'a lock that is a link to nothing is refused, not tried for ever',
  async () => {
    const path = await closedRun();
    symlinkSync('nowhere', join(path, 'lock'));
    for (const use of [() => RunDirectory.open(path, 'write'), () => RunDirectory.checkFree(path)])
      expect(await failure('LT_RUN_FOREIGN', use)).toContain(`${join(path, 'lock')}: it is a symbolic link`);
  },
);
