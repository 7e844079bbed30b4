import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { RunDirectory } from '../../src/checkpoint/run.js';
import { openRun } from '../../src/run/open-run.js';
import { failure } from '../checkpoint/helpers.js';
import { releasedRun } from './released-run.js';

const children: ChildProcess[] = [];
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});

/** Every name below `path`, with its size and time. */
const stamps = (path: string) =>
  readdirSync(path, { recursive: true, encoding: 'utf8' })
    .sort()
    .map((name) => [name, statSync(join(path, name)).size, statSync(join(path, name)).mtimeMs]);

/** Adds a line to the run's metrics, or the beginning of one. */
const append = (path: string, event: object, end = '\n') =>
  appendFileSync(join(path, 'metrics.jsonl'), `${JSON.stringify(event)}${end}`);

test('a run of 0.1.0 is read with its configuration, events, samples and checkpoints, and nothing of it is written', async () => {
  const path = releasedRun();
  const before = stamps(path);
  const run = await openRun(path);
  expect(run.path).toBe(path);
  expect(run.config).toMatchObject({ version: '0.1.0', model: { width: 32, layers: 2 }, options: { seed: 7 } });
  expect(run.config).not.toHaveProperty('plan');
  const kinds = run.metrics().map(({ event, step }) => `${event} ${step}`);
  expect(kinds).toEqual([
    ...['step 1', 'eval 1', 'step 2', 'step 3', 'step 4', 'eval 4', 'step 5', 'sample 5', 'checkpoint 5'],
  ]);
  expect(run.samples()).toEqual([{ event: 'sample', step: 5, text: expect.stringMatching(/^the/) }]);
  const digest = '17386df7032811113cf7cf906dd6373b551611c1067d1e6a643374e712925532';
  expect(run.checkpoints()).toEqual([{ step: 5, digest, path: join(path, 'checkpoints', '000005') }]);
  expect(run.end()).toEqual({ state: 'unfinished' });
  expect(run.inexact()).toBeUndefined();
  expect(stamps(path)).toEqual(before);
});

test('what another process adds is read by the next call; a line in the making is none', async () => {
  const path = releasedRun();
  const run = await openRun(path);
  const { length } = run.metrics();
  append(path, { event: 'sample', step: 5, text: 'the sea' });
  append(path, { event: 'sample', step: 6, text: 'the whale' }, '');
  appendFileSync(join(path, 'metrics.jsonl'), '\n{"event":"sample","ste');
  expect(run.metrics()).toHaveLength(length + 2);
  // Of several samples of one step, the last counts.
  expect(run.samples().map(({ text }) => text)).toEqual(['the sea', 'the whale']);
  for (const step of [6, 7]) append(path, { event: 'sample', step, text: 'after a torn line' });
  await failure('LT_CHECKPOINT_CORRUPT', () => run.metrics());
});

test.each(['done', 'stopped', 'failed'] as const)('a run that is %s says so, until it goes on', async (state) => {
  const path = releasedRun();
  const run = await openRun(path);
  const why = state === 'failed' ? { reason: 'the loss is not finite' } : {};
  append(path, { event: state, step: 5, digest: 'd', seconds: 1, ...why });
  expect(run.end()).toEqual({ state, ...why });
  append(path, { event: 'step', step: 6, loss: 5, tokens: 1, tokensPerSecond: 1, lr: 1 });
  expect(run.end()).toEqual({ state: 'unfinished' });
});

test('a run is running while a process writes it, this one or another, and unfinished once that is killed', async () => {
  const path = releasedRun();
  const run = await openRun(path);
  const own = await RunDirectory.open(path, 'write');
  expect(run.end()).toEqual({ state: 'running' });
  own.close();
  expect(run.end()).toEqual({ state: 'unfinished' });
  const module = JSON.stringify(resolve('dist/src/checkpoint/run.js'));
  const script = `
    import(${module}).then(({ RunDirectory }) => RunDirectory.open(${JSON.stringify(path)}, 'write')).then(
      () => { console.log('open'); setInterval(() => {}, 1000); });`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  await once(child.stdout as NodeJS.ReadableStream, 'data');
  expect(run.end()).toEqual({ state: 'running' });
  expect((await openRun(path)).metrics()).not.toHaveLength(0);
  child.kill('SIGKILL');
  await once(child, 'exit');
  expect(run.end()).toEqual({ state: 'unfinished' });
  writeFileSync(join(path, 'lock'), '{"pid": ');
  expect(run.end()).toEqual({ state: 'unfinished' });
});

test('a run that has used what was found wrong has its mark', async () => {
  const path = releasedRun();
  const run = await openRun(path);
  append(path, { event: 'inexact', step: 4, worker: 'bob', reason: 'it lied' });
  append(path, { event: 'inexact', step: 3, worker: 'eve', reason: 'it lied' });
  expect(run.inexact()).toEqual({ since: 3, workers: ['bob', 'eve'] });
});

test('a checkpoint that goes meanwhile, or does not say its digest, is left out', async () => {
  const path = releasedRun();
  const run = await openRun(path);
  const [{ path: checkpoint }] = run.checkpoints();
  writeFileSync(join(checkpoint, 'state.json'), '{}');
  expect(run.checkpoints()).toEqual([]);
  rmSync(join(path, 'checkpoints'), { recursive: true });
  expect(run.checkpoints()).toEqual([]);
});

test('a folder that is no run, or whose configuration is damaged, is refused in one line', async () => {
  const path = releasedRun();
  await failure('LT_RUN_MISSING', () => openRun(join(path, 'nowhere')));
  await failure('LT_RUN_MISSING', () => openRun(join(path, 'checkpoints')));
  writeFileSync(join(path, 'config.json'), '{"version":"0.1.0","model":{}}');
  await failure('LT_CHECKPOINT_CORRUPT', () => openRun(path));
});
