import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { readHead, readLines, readRegular } from '../../src/files/regular-file.js';
import { lantrain, SMALL, workFolder } from '../cli/run.js';
import { slowTest } from '../slow.js';
import { sampled } from '../thorough.js';
import { folderWith } from './helpers.js';

/** A command that waits for a writer or reads endlessly does not end in this time. */
const ENDS_IN_MS = 30_000;

const folder = workFolder();
const at = (...names: string[]) => join(folder.path, ...names);
let checkpoint = '';

/** Runs a command whose standard input is a pipe that is never written to. */
const command = (args: readonly string[]) => lantrain(args, { cwd: folder.path, mostMs: ENDS_IN_MS });

const pipe = (path: string) => {
  rmSync(path, { recursive: true, force: true });
  execFileSync('mkfifo', [path]);
};
const zeros = (path: string) => {
  rmSync(path, { recursive: true, force: true });
  symlinkSync('/dev/zero', path);
};

beforeAll(async () => {
  const { code, stderr } = await command(['train', ...SMALL, '--steps', '2', '--out', 'run']);
  expect(code, stderr).toBe(0);
  checkpoint = join('checkpoints', readdirSync(at('run/checkpoints'))[0]);
});
afterAll(() => folder.remove());

beforeEach(() => {
  for (const name of ['copy', 'model', 'shards', 'texts', 'input']) rmSync(at(name), { recursive: true, force: true });
  cpSync(at('run'), at('copy'), { recursive: true });
  cpSync(resolve('test/golden/tied'), at('model'), { recursive: true });
  mkdirSync(at('shards'));
  cpSync(resolve('test/golden/tied/config.json'), at('shards/config.json'));
  mkdirSync(at('texts'));
});

const INDEX = 'model.safetensors.index.json';
/** Within a run no link is followed. */
const NO_FILE = /it is a (pipe|device|symbolic link)/;

/** what, arguments, the file that is not one, the code. */
const places: [string, string[], () => string, RegExp][] = [
  [
    'a checkpoint',
    ['generate', '--run', 'copy', '--prompt', 'x'],
    () => at('copy', checkpoint, 'state.json'),
    /LT_CHECKPOINT_CORRUPT/,
  ],
  [
    'the weights of a checkpoint',
    ['export', '--run', 'copy', '--out', 'exported'],
    () => at('copy', checkpoint, 'model.safetensors'),
    /LT_CHECKPOINT_CORRUPT/,
  ],
  [
    'the moments of a checkpoint',
    ['train', '--resume', 'copy', '--steps', '4'],
    () => at('copy', checkpoint, 'optimizer.safetensors'),
    /LT_RUN_FOREIGN/,
  ],
  ["a run's config.json", ['report', 'copy'], () => at('copy/config.json'), /LT_RUN_FOREIGN/],
  ['metrics.jsonl', ['report', 'copy'], () => at('copy/metrics.jsonl'), /LT_RUN_FOREIGN/],
  ["a model's config.json", ['train', '--init', 'model'], () => at('model/config.json'), /LT_CHECKPOINT_CORRUPT/],
  ['weights', ['train', '--init', 'model'], () => at('model/model.safetensors'), /LT_CHECKPOINT_CORRUPT/],
  ['an index of shards', ['train', '--init', 'shards'], () => at('shards', INDEX), /LT_CHECKPOINT_CORRUPT/],
  ['a plan', ['train', ...SMALL, '--steps', '2', '--plan', 'input'], () => at('input'), /LT_USAGE_OPTION: --plan/],
  [
    'a certificate',
    ['coordinator', ...SMALL, '--steps', '2', '--listen', '127.0.0.1:0', '--cert', 'input', '--key', 'input'],
    () => at('input'),
    /LT_CLUSTER_ACCESS/,
  ],
];

describe('what has no end, or waits for a writer, is refused at once', () => {
  test.each(sampled(places, 8))('a pipe or device as %s is refused at once', async (_what, args, path, code) => {
    for (const put of [pipe, zeros]) {
      put(path());
      const ended = await command(args);
      const last = ended.stderr.trim().split('\n').at(-1);
      expect(last, ended.stderr).toMatch(code);
      expect(last).toMatch(NO_FILE);
      expect(ended.stderr).not.toMatch(/unexpected error|\n\s+at /);
      expect(ended.code).toBe(/USAGE/.test(String(code)) ? 2 : 1);
      rmSync(path());
    }
    expect(existsSync(at('exported'))).toBe(false);
  });

  slowTest('a pipe as one of many shards is refused at once', async () => {
    writeFileSync(at('shards', INDEX), JSON.stringify({ weight_map: { 'wte.weight': 'a.safetensors' } }));
    pipe(at('shards/a.safetensors'));
    const { code, stderr } = await command(['train', '--init', 'shards']);
    expect(stderr).toMatch(/LT_CHECKPOINT_CORRUPT: .*a\.safetensors cannot be read: it is a pipe/);
    expect(code).toBe(1);
  });

  test.each(sampled(['fifo', '/dev/zero', '/dev/stdin', 'socket'], 4))('--data %s is refused', async (source) => {
    if (source === 'fifo') pipe(at(source));
    const server = source === 'socket' ? createServer().listen(at(source)) : undefined;
    if (server) await new Promise((listening) => server.once('listening', listening));
    const { code, stderr } = await command(['train', '--data', source, '--steps', '2']);
    server?.close();
    expect(stderr.trim()).toMatch(/^error LT_DATA_MISSING: .* is neither a file nor a folder/);
    expect(code).toBe(1);
  });

  slowTest('a pipe or a device among the texts of a folder is passed over', async () => {
    pipe(at('texts/a.txt'));
    zeros(at('texts/b.txt'));
    const { code, stderr } = await command(['train', '--data', 'texts', '--steps', '2']);
    expect(stderr.trim()).toMatch(/^error LT_DATA_MISSING: the folder texts holds no text files/);
    expect(code).toBe(1);
  });
});

describe('a file is read as long as it was when it was opened', () => {
  test('a file is read line by line as long as it was when it was opened, whatever is added meanwhile', () => {
    const path = join(folderWith({ x: 'one\ntwo\nthr' }), 'x');
    const lines = readLines(path, 100);
    expect(lines.next().value).toBe('one');
    appendFileSync(path, 'ee\nfour\n');
    expect([...lines]).toEqual(['two', 'thr']);
  });

  test('lines that cross what is read at once come as splitting the whole file gives them', () => {
    const text = Array.from({ length: 3000 }, (_, i) => 'é'.repeat((i * i) % 97)).join('\n');
    const path = join(folderWith({ x: text, empty: '' }), 'x');
    expect([...readLines(path, 1000)]).toEqual(text.split('\n'));
    expect([...readLines(join(path, '..', 'empty'), 1000)]).toEqual(['']);
  });

  test('a file that is larger, or has a longer line, than there may be is refused', () => {
    const path = join(folderWith({ x: 'a'.repeat(101) }), 'x');
    const tooLarge = expect.objectContaining({ code: 'EFBIG' });
    expect(() => readRegular(path, 100)).toThrow(tooLarge);
    expect(() => [...readLines(path, 100)]).toThrow(tooLarge);
    expect(readRegular(path, 101).length).toBe(101);
    expect(readHead(path, 5).toString()).toBe('aaaaa');
  });

  test('a file that has no length and no end is read as nothing', () => {
    if (!existsSync('/proc/kmsg')) return;
    expect(readRegular('/proc/kmsg').length).toBe(0);
    expect([...readLines('/proc/kmsg', 100)]).toEqual(['']);
  });
});
