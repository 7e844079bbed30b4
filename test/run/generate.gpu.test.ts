import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, expect, test, vi } from 'vitest';
import { runCommandLine } from '../../src/cli/command-line.js';
import { generate } from '../../src/run/generate.js';
import type { GenerateOptions } from '../../src/run/generate-options.js';
import { failure } from '../checkpoint/helpers.js';
import { RELEASED_RUN, releasedRun } from './released-run.js';

const OPTIONS = { run: RELEASED_RUN, prompt: 'the', tokens: 12, temperature: 0.9 };

/** Collects what is written to standard output and error. */
function watchOutput() {
  const texts = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    vi.spyOn(process[name], 'write').mockImplementation((text) => {
      texts[name] += String(text);
      return true;
    });
  return texts;
}
afterEach(() => void vi.restoreAllMocks());

async function piecesOf(options: GenerateOptions): Promise<string[]> {
  const pieces: string[] = [];
  for await (const piece of generate(options)) pieces.push(piece);
  return pieces;
}

test('text comes in whole characters, the same for one seed beside another call, as the command line prints it', async () => {
  const output = watchOutput();
  const listeners = process.eventNames().map((name) => [name, process.listenerCount(name)]);
  const pieces = await piecesOf(OPTIONS);
  expect(pieces.length).toBeGreaterThan(1);
  for (const piece of pieces) expect(piece).toMatch(/^\P{Surrogate}+$/u);
  const together = await Promise.all([piecesOf(OPTIONS), piecesOf({ ...OPTIONS, seed: 43 })]);
  expect(together[0]).toEqual(pieces);
  expect(together[1]).not.toEqual(pieces);
  expect(output).toEqual({ stdout: '', stderr: '' });
  expect(process.eventNames().map((name) => [name, process.listenerCount(name)])).toEqual(listeners);

  const { run, prompt, tokens, temperature } = OPTIONS;
  const options = ['--tokens', String(tokens), '--temperature', String(temperature)];
  expect(await runCommandLine(['generate', '--run', run, '--prompt', prompt, ...options])).toBe(0);
  expect(output).toEqual({ stdout: `${prompt}${pieces.join('')}\n`, stderr: '' });
});

test('generation ends without an error when the loop is left or the signal is aborted', async () => {
  const long = { ...OPTIONS, tokens: 1_000_000 };
  const controller = new AbortController();
  let count = 0;
  for await (const piece of generate(long, { signal: controller.signal })) {
    expect(piece).not.toBe('');
    if (++count === 3) controller.abort();
  }
  expect(count).toBe(3);
  for await (const _ of generate(long)) break;
  expect(await generate(long, { signal: AbortSignal.abort() }).next()).toEqual({ done: true, value: undefined });
});

test('what is wrong with a generation is said in one line before anything is drawn', async () => {
  const first = (options: object) => () => generate({ ...OPTIONS, ...options }).next();
  expect(await failure('LT_USAGE_OPTION', first({ prompt: '' }))).toBe('generate: prompt is empty');
  expect(await failure('LT_USAGE_OPTION', first({ topK: -1 }))).toBe('generate: topK must be at least 0');
  expect(await failure('LT_USAGE_OPTION', first({ tokens: 1.5 }))).toBe('generate: tokens must be a whole number');
  expect(await failure('LT_USAGE_OPTION', first({ temprature: 1 }))).toMatch(/has temprature, which do not belong/);
  expect(await failure('LT_RUN_MISSING', first({ run: 'nowhere' }))).toBe('there is no run at nowhere');
  expect(await failure('LT_GPU_NONE', first({ adapter: 'no such adapter' }))).toContain('"no such adapter"');
  const path = releasedRun();
  rmSync(join(path, 'checkpoints', '000005'), { recursive: true });
  expect(await failure('LT_RUN_MISSING', first({ run: path }))).toBe(`${path} has no checkpoint yet`);
});
