import { execFileSync } from 'node:child_process';
import {
  chownSync,
  cpSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { RunDirectory } from '../../src/checkpoint/run.js';
import { writeCacheFile } from '../../src/data/cache-folder.js';
import { LantrainError } from '../../src/errors.js';
import { writeWhole } from '../../src/files/atomic.js';
import { removeQuietly, systemFailure } from '../../src/files/files.js';
import { loadOrCreateAccess, saveIncarnation, savePort } from '../../src/net/access.js';
import { exportModel } from '../../src/run/export-model.js';
import { sampled } from '../thorough.js';
import { failure, scratch, state, TINY } from './helpers.js';
import { contentsOf, NAMES, Outside, PLANTS, type Plant, plant } from './plants.js';

const CONFIG = { version: '0.1.0', model: TINY };
const next = (step: number) => ({ model: TINY, step, version: '0.1.0', tokensSeen: 0, read: state(TINY, step) });
const event = (step: number) => ({ event: 'sample', step, text: 'chosen lines' });
const SYSTEM = process.platform;

let run: string;
let outside: Outside;
let before: unknown;

const whole = mkdtempSync(join(tmpdir(), 'lantrain-planted-'));
beforeAll(async () => {
  const made = await RunDirectory.create(join(whole, 'run'), CONFIG);
  for (const step of [2, 4]) {
    made.append(event(step));
    await made.writeCheckpoint(next(step));
  }
  await made.writePlot('<svg/>');
  await made.writeReport('<html/>');
  made.close();
  const folder = join(whole, 'run', 'cluster');
  await loadOrCreateAccess(folder);
  await savePort(folder, 7070);
  await saveIncarnation(folder, 1);
});
afterAll(() => rmSync(whole, { recursive: true }));
beforeEach(() => {
  const dir = scratch();
  run = join(dir, 'run');
  cpSync(join(whole, 'run'), run, { recursive: true });
  outside = new Outside(join(dir, 'outside'));
  before = outside.snapshot();
});
afterEach(() => expect(outside.snapshot(), 'what lies outside of the run').toEqual(before));

/** Everything that a command writes into a resumed run, in order. */
async function goOn(path: string): Promise<void> {
  const opened = await RunDirectory.open(path, 'write');
  try {
    (await opened.latest()).found?.close();
    await opened.cutBack(4);
    await writeAll(opened);
  } finally {
    opened.close();
  }
}

async function writeAll(opened: RunDirectory): Promise<void> {
  const folder = join(opened.root, 'cluster');
  await loadOrCreateAccess(folder);
  await saveIncarnation(folder, 2);
  await savePort(folder, 7071);
  for (const step of [4, 6]) {
    opened.append(event(step));
    await opened.writeCheckpoint(next(step));
    await opened.writePlot('<svg></svg>');
  }
  await opened.writeReport('<html></html>');
}

/** The LantrainError that `act` throws; undefined where it succeeds. */
async function outcome(act: () => Promise<unknown>): Promise<LantrainError | undefined> {
  try {
    await act();
    return undefined;
  } catch (thrown) {
    const error = systemFailure(thrown);
    expect(error).toBeInstanceOf(LantrainError);
    expect((error as LantrainError).message).not.toContain('\n');
    return error as LantrainError;
  }
}

/** A lock is never written in place: a second name of it leaves the other file alone. */
const isHarmless = (name: string, what: Plant) => what === 'a second name of a file' && name.startsWith('lock');
const ALWAYS_REFUSED = [
  'a link to a file',
  'a link to a folder',
  'a link to nothing',
  'a second name of a file',
  'a pipe',
];

test.skipIf(SYSTEM === 'win32').each(Object.keys(PLANTS) as Plant[])(
  '%s reaches nothing outside, wherever in a run it lies and whatever writes the run',
  async (what) => {
    const print = [process.stdout, process.stderr].map((stream) => vi.spyOn(stream, 'write').mockReturnValue(true));
    for (const name of sampled(NAMES, 3)) {
      plant(run, name, what, outside);
      const planted = contentsOf(run);
      const refused = await outcome(() => goOn(run));
      if (ALWAYS_REFUSED.includes(what) && !isHarmless(name, what)) {
        // A config.json that is a dangling link counts as missing.
        const isMissing = name === 'config.json' && what === 'a link to nothing';
        expect(refused?.code, name).toBe(isMissing ? 'LT_RUN_MISSING' : 'LT_RUN_FOREIGN');
        if (!isMissing) expect(refused?.message).toContain(`cannot use ${join(run, name)}: it `);
      }
      if (refused?.code === 'LT_RUN_FOREIGN') expect(contentsOf(run), `the run, with ${name}`).toEqual(planted);
      if (what !== 'a pipe' && /^(config|checkpoints)/.test(name))
        await outcome(() => exportModel({ run, out: join(run, '..', 'exported') }));
      expect(outside.snapshot(), `what lies outside, with ${name}`).toEqual(before);
      for (const one of [run, join(run, '..', 'exported')]) rmSync(one, { recursive: true, force: true });
      cpSync(join(whole, 'run'), run, { recursive: true });
    }
    for (const spy of print) spy.mockRestore();
  },
);

describe.skipIf(SYSTEM === 'win32')('a link that comes while a run is written', () => {
  test.each(['metrics.jsonl', 'samples.txt', 'loss.svg', 'report.html', 'checkpoints', 'cluster', 'cluster/token'])(
    'a link that comes at %s while a run is written is not followed',
    async (name) => {
      const opened = await RunDirectory.open(run, 'write');
      for (const what of ['a link to a file', 'a link to a folder', 'a link to nothing', 'a pipe'] as const) {
        plant(run, name, what, outside);
        expect((await outcome(() => writeAll(opened)))?.code).toBe('LT_RUN_FOREIGN');
      }
      opened.close();
    },
  );

  test('a link in a checkpoint that is to go keeps that checkpoint, and the run goes on', async () => {
    const opened = await RunDirectory.open(run, 'write');
    symlinkSync(join(outside.path, 'folder'), join(opened.checkpoints, '000002', 'best'));
    symlinkSync(join(outside.path, 'folder'), join(opened.checkpoints, '000001'));
    await opened.writeCheckpoint(next(6));
    await opened.writeCheckpoint(next(8));
    opened.close();
    expect(readdirSync(opened.checkpoints).sort()).toEqual(['000001', '000002', '000006', '000008']);
    expect(readdirSync(join(opened.checkpoints, '000002'))).toContain('state.json');
  });
});

describe('what is not a file or folder of this user', () => {
  test.skipIf(SYSTEM === 'win32')('a socket in a run is refused', async () => {
    const server = createServer().listen(join(run, 'report.html.0123456789abcdef.partial'));
    await new Promise((ready) => server.once('listening', ready));
    expect(await failure('LT_RUN_FOREIGN', () => goOn(run))).toContain('it is a socket');
    server.close();
  });

  test.skipIf(SYSTEM === 'win32')('a device in a run is refused', async ({ skip }) => {
    const path = join(run, 'loss.svg.partial');
    try {
      execFileSync('mknod', [path, 'c', '1', '3'], { stdio: 'ignore' });
    } catch {
      skip('only root makes devices');
    }
    expect(await failure('LT_RUN_FOREIGN', () => goOn(run))).toBe(`cannot use ${path}: it is a device; remove it`);
  });

  test('a file or folder of another user in a run is refused', async ({ skip }) => {
    if (process.geteuid?.() !== 0) skip('only root gives files away');
    for (const name of [
      'metrics.jsonl',
      'checkpoints',
      'checkpoints/000004',
      'checkpoints/000004/state.json',
      'cluster',
    ]) {
      chownSync(join(run, name), 12345, 12345);
      const planted = contentsOf(run);
      expect(await failure('LT_RUN_FOREIGN', () => goOn(run))).toContain(
        `${join(run, name)}: it belongs to user 12345`,
      );
      expect(contentsOf(run)).toEqual(planted);
      // Reading is allowed for files of other users.
      (await RunDirectory.open(run, 'read')).close();
      chownSync(join(run, name), 0, 0);
    }
    await goOn(run);
  });

  test.skipIf(SYSTEM === 'win32')(
    'a link at a name of nobody in a run is refused, and in a folder of nobody it is not looked at',
    async () => {
      mkdirSync(join(run, 'notes'));
      symlinkSync(outside.path, join(run, 'notes', 'link'));
      await goOn(run);
      symlinkSync(outside.path, join(run, 'link'));
      await failure('LT_RUN_FOREIGN', () => goOn(run));
    },
  );
});

describe.skipIf(SYSTEM === 'win32')('the directory that the user names', () => {
  test('the directory that the user names may be a link, and lie behind one: it is resolved once', async () => {
    const dir = join(run, '..');
    symlinkSync(dir, join(dir, 'behind'));
    symlinkSync('run', join(dir, 'link'));
    for (const path of [join(dir, 'behind', 'run'), join(dir, 'link'), join(dir, 'behind', 'link')]) {
      const opened = await RunDirectory.open(path, 'write');
      expect(opened.path).toBe(path);
      expect(opened.root).toBe(run);
      // The link leads elsewhere by now.
      rmSync(join(dir, 'link'));
      symlinkSync(join(outside.path, 'folder'), join(dir, 'link'));
      (await opened.latest()).found?.close();
      await opened.cutBack(4);
      await writeAll(opened);
      opened.close();
      rmSync(join(dir, 'link'));
      symlinkSync('run', join(dir, 'link'));
    }
    expect(readdirSync(join(run, 'checkpoints')).sort()).toEqual(['000004', '000006']);
  });

  test('the directory that the user names may be new behind a link', async () => {
    const dir = join(run, '..');
    mkdirSync(join(dir, 'disk'));
    symlinkSync('disk', join(dir, 'runs'));
    const made = await RunDirectory.createFirst([join(dir, 'runs', 'a')], CONFIG);
    expect(made.root).toBe(join(dir, 'disk', 'a'));
    await made.discard();
    expect(readdirSync(join(dir, 'disk'))).toEqual([]);
  });

  test.each(['config.json.partial', 'lock', 'lock.1a2b3c4d.partial'])(
    'a directory with a link at %s becomes no new run',
    async (name) => {
      const path = join(run, '..', 'new');
      mkdirSync(path);
      plant(path, name, 'a link to a file', outside);
      await failure('LT_RUN_FOREIGN', () => RunDirectory.create(path, CONFIG));
      expect(readdirSync(path)).toEqual([name]);
    },
  );
});

describe('what a crash left', () => {
  test('what a crash left is swept under the names of this version and of 0.1.0, and nothing else is', async () => {
    const at = (...names: string[]) => join(run, ...names);
    const swept = ['loss.svg.partial', 'metrics.jsonl.0123456789abcdef.partial'];
    const kept = ['notes.partial', 'lock.1a2b3c4d.partial'];
    for (const name of [...swept, ...kept]) writeFileSync(at(name), '');
    const checkpoint = (name: string) => cpSync(at('checkpoints/000002'), at('checkpoints', name), { recursive: true });
    const sweptCheckpoints = ['000006.partial', '000006.0123456789abcdef.partial', '000004.0123456789abcdef.replaced'];
    const keptCheckpoints = ['000006.damaged', 'best.partial', 'best'];
    for (const name of [...sweptCheckpoints, ...keptCheckpoints]) checkpoint(name);
    mkdirSync(at('checkpoints/000007.partial/deep'), { recursive: true });
    checkpoint('000003.0123456789abcdef.replaced');
    (await RunDirectory.open(run, 'write')).close();
    const names = readdirSync(run);
    for (const name of swept) expect(names).not.toContain(name);
    expect(names).toEqual(expect.arrayContaining(kept));
    expect(readdirSync(at('checkpoints')).sort()).toEqual(
      ['000002', '000003', '000004', '000007.partial', ...keptCheckpoints].sort(),
    );
  });

  test('a run that never began goes, and what others put there stays', async () => {
    const path = join(run, '..', 'new');
    const made = await RunDirectory.create(path, CONFIG);
    await made.writeCheckpoint(next(1));
    await loadOrCreateAccess(join(path, 'cluster'));
    writeFileSync(join(path, 'notes.txt'), 'mine');
    mkdirSync(join(path, 'folder'));
    await made.discard();
    expect(readdirSync(path).sort()).toEqual(['folder', 'notes.txt']);
  });
});

describe.skipIf(SYSTEM === 'win32')('a run that never began', () => {
  test.each(['checkpoints', 'cluster'])('a run that never began takes nothing through a link at %s', async (name) => {
    for (const what of ['a link to a folder', 'a link to a file'] as const) {
      const path = join(run, '..', 'new');
      const made = await RunDirectory.create(path, CONFIG);
      plant(path, name, what, outside);
      await made.discard();
      expect(readdirSync(path)).toEqual([name]);
      rmSync(path, { recursive: true });
    }
  });
});

describe.skipIf(SYSTEM === 'win32')('where owners mean nothing', () => {
  test.each([
    ['as every file has the same one', () => 4242],
    ['as there are none', undefined],
  ])('owners that mean nothing are not held against a file: %s', async (_, geteuid) => {
    const own = process.geteuid;
    process.geteuid = geteuid;
    try {
      await goOn(run);
      expect(readdirSync(join(run, 'checkpoints')).sort()).toEqual(['000004', '000006']);
      plant(run, 'loss.svg', 'a link to a file', outside);
      await failure('LT_RUN_FOREIGN', () => goOn(run));
    } finally {
      process.geteuid = own;
    }
  });
});

describe.skipIf(SYSTEM === 'win32')('a file that is replaced elsewhere', () => {
  test('a file that is written whole replaces a link and does not follow it, nor one that lies at a name of 0.1.0', async () => {
    const dir = join(run, '..');
    const text = 'whole';
    for (const [name, write] of [
      ['plan.json', (path: string) => writeWhole(path, (file) => file.writeFile(text))],
      ['ids.tokens', (path: string) => writeCacheFile(path, (fd) => writeFileSync(fd, text))],
    ] as const) {
      const path = join(dir, name);
      for (const one of [path, `${path}.partial`, `${path}.0123456789ab.tmp`])
        symlinkSync(join(outside.path, 'file'), one);
      await write(path);
      expect(lstatSync(path).isFile()).toBe(true);
      expect(readFileSync(path, 'utf8')).toBe(text);
    }
  });

  test('the removal after a failure leaves links, pipes and folders that are not ours', async () => {
    const path = join(run, '..', 'x');
    for (const what of ['a link to a file', 'a link to a folder', 'a pipe', 'a folder'] as const) {
      plant(path, 'y', what, outside);
      await removeQuietly(join(path, 'y'));
      expect(readdirSync(path)).toEqual(['y']);
    }
  });
});
