import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { writeModel } from '../../src/checkpoint/huggingface.js';
import { RunDirectory } from '../../src/checkpoint/run.js';
import { writeCacheFile } from '../../src/data/cache-folder.js';
import { checkWritableFile } from '../../src/files/atomic.js';
import { makeFolder } from '../../src/files/files.js';
import { failure, scratch, state, TINY } from './helpers.js';

const CONFIG = { version: '0.1.0', model: TINY };

describe('runs without a name of their own', () => {
  test('runs without names that begin at the same moment get one each', async () => {
    const runs = join(scratch(), 'runs');
    const paths = Array.from({ length: 9 }, (_, n) => join(runs, `tiny-${n + 1}`));
    const made = await Promise.all(Array.from({ length: 5 }, () => RunDirectory.createFirst(paths, CONFIG)));
    expect(made.map(({ path }) => path).sort()).toEqual(paths.slice(0, 5));
    for (const run of made) run.close();
    for (const path of paths.slice(0, 5)) expect(readdirSync(path).sort()).toEqual(['checkpoints', 'config.json']);
  });

  test('a run without a name takes the next one where another process was faster after a look at the first', async () => {
    const dir = scratch();
    function* paths() {
      for (const name of ['a', 'b', 'c']) {
        // An empty folder may belong to another run that has just begun.
        if (name === 'a') mkdirSync(join(dir, name));
        if (name === 'b') writeFileSync(join(dir, name), '');
        yield join(dir, name);
      }
    }
    const run = await RunDirectory.createFirst(paths(), CONFIG);
    expect(run.path).toBe(join(dir, 'c'));
    run.close();
    expect(readdirSync(join(dir, 'a'))).toEqual([]);
  });

  test('a run without a name is refused where the folder of runs is a file, not tried for ever', async () => {
    const runs = join(scratch(), 'runs');
    writeFileSync(runs, '');
    function* paths() {
      for (let n = 1; n < 1000; n++) yield join(runs, `tiny-${n}`);
    }
    expect(await failure('LT_RUN_WRITE', () => RunDirectory.createFirst(paths(), CONFIG))).toContain('tiny-1: ');
  });
});

describe('a run that fails before it begins leaves nothing', () => {
  const broken = { ...CONFIG, model: { ...TINY, width: 0 } };

  test('a run that fails before it begins leaves nothing of what it has made itself', async () => {
    const dir = scratch();
    for (const create of [
      () => RunDirectory.create(join(dir, 'deep/runs/a'), broken),
      () => RunDirectory.createFirst([join(dir, 'deep/runs/a')], broken),
    ]) {
      await expect(create()).rejects.toThrow();
      expect(readdirSync(dir)).toEqual([]);
    }
    mkdirSync(join(dir, 'mine'));
    await expect(RunDirectory.create(join(dir, 'mine'), broken)).rejects.toThrow();
    expect(readdirSync(join(dir, 'mine'))).toEqual([]);
    const run = await RunDirectory.create(join(dir, 'deep/runs/a'), CONFIG);
    await run.discard();
    expect(readdirSync(dir)).toEqual(['mine']);
    // A folder that existed before is kept.
    await (await RunDirectory.create(join(dir, 'mine'), CONFIG)).discard();
    expect(readdirSync(dir, { recursive: true })).toEqual(['mine']);
  });

  test('a run that fails before it begins takes nothing of others with it', async () => {
    const dir = scratch();
    const [one, other] = ['a', 'b'].map((name) => join(dir, 'runs', name));
    const first = await RunDirectory.create(one, CONFIG);
    await (await RunDirectory.create(other, CONFIG)).discard();
    expect(readdirSync(join(dir, 'runs'))).toEqual(['a']);
    first.close();
    const { path } = await RunDirectory.create(other, CONFIG);
    await first.discard();
    expect(readdirSync(join(dir, 'runs'))).toEqual(['b']);
    expect(existsSync(join(path, 'config.json'))).toBe(true);
  });
});

describe('a folder', () => {
  test('a folder is made with those that it lies in; the outermost new one is told', () => {
    const dir = scratch();
    expect(makeFolder(join(dir, 'a'))).toBe(join(dir, 'a'));
    expect(makeFolder(join(dir, 'a/b/c'))).toBe(join(dir, 'a/b'));
    expect(makeFolder(join(dir, 'a/b/c'))).toBeUndefined();
    writeFileSync(join(dir, 'file'), '');
    expect(() => makeFolder(join(dir, 'file'))).toThrow('EEXIST');
    expect(() => makeFolder(join(dir, 'file/x'))).toThrow('ENOTDIR');
  });

  test.skipIf(process.platform === 'win32')('a folder in a file is refused before any work is done', async () => {
    const file = join(scratch(), 'file');
    writeFileSync(file, '');
    const path = join(file, 'deep', 'run');
    expect(await failure('LT_RUN_WRITE', () => RunDirectory.checkFree(path))).toBe(
      `cannot write ${path}: not a directory (ENOTDIR)`,
    );
    const plan = join(file, 'plan.json');
    expect(await failure('LT_RUN_WRITE', () => checkWritableFile(plan))).toBe(
      `cannot write ${plan}: not a directory (ENOTDIR)`,
    );
  });

  test.skipIf(process.platform === 'win32')('a device or a pipe in place of a file is refused', async () => {
    const dir = scratch();
    execFileSync('mkfifo', [join(dir, 'pipe')]);
    symlinkSync('/dev/null', join(dir, 'link'));
    for (const path of ['/dev/null', join(dir, 'pipe'), join(dir, 'link')])
      expect(await failure('LT_RUN_WRITE', () => checkWritableFile(path))).toBe(
        `cannot write ${path}: it is a device or a pipe; name a file`,
      );
  });

  test.skipIf(process.platform === 'win32')('a folder is refused at once where the current folder was removed', () => {
    const script = `
      const gone = process.argv[1];
      process.chdir(gone);
      require('node:fs').rmdirSync(gone);
      const tell = (error) => console.log(error.code + ' ' + error.message);
      const at = (path) => import(${JSON.stringify(`${resolve('dist/src')}/`)} + path);
      const model = ${JSON.stringify(TINY)};
      Promise.all([at('checkpoint/run.js'), at('checkpoint/huggingface.js'), at('data/cache-folder.js')]).then(
        async ([{ RunDirectory }, { writeModel }, { writeCacheFile }]) => {
          try { RunDirectory.checkFree('runs/a'); } catch (error) { tell(error); }
          await RunDirectory.create('runs/a', { version: '1', model }).catch(tell);
          await RunDirectory.createFirst(['runs/a', 'runs/b'], { version: '1', model }).catch(tell);
          await writeModel('out/model', model, () => new Float32Array()).catch(tell);
          await writeCacheFile('cache/tuning/x', () => {}).catch(tell);
        });`;
    const gone = join(scratch(), 'gone');
    mkdirSync(gone);
    const said = execFileSync(process.execPath, ['-e', script, gone], { encoding: 'utf8', timeout: 30_000 });
    const why = 'no such file or directory (ENOENT), as the current folder was removed';
    expect(said.trim().split('\n')).toEqual([
      `LT_RUN_WRITE cannot write runs/a: ${why}`,
      `LT_RUN_WRITE cannot write runs/a: ${why}`,
      `LT_RUN_WRITE cannot write runs/a: ${why}`,
      `LT_RUN_WRITE cannot write out/model: ${why}`,
      expect.stringContaining(`LT_RUN_WRITE cannot write the cache file cache/tuning/x: ${why}; `),
    ]);
  });

  test('a folder on a file system that is read-only is refused by that name', async ({ skip }) => {
    const mount = scratch();
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'ro', 'tmpfs', mount], { stdio: 'ignore' });
    } catch {
      skip('a tmpfs cannot be mounted here');
    }
    try {
      const why = 'read-only file system (EROFS)';
      const [run, model, cache] = ['run', 'deep/model', 'cache/x'].map((name) => join(mount, name));
      expect(await failure('LT_RUN_WRITE', () => RunDirectory.checkFree(run))).toBe(`cannot write ${run}: ${why}`);
      expect(await failure('LT_RUN_WRITE', () => RunDirectory.checkFree(mount))).toBe(`cannot write ${mount}: ${why}`);
      expect(await failure('LT_RUN_WRITE', () => RunDirectory.create(run, CONFIG))).toBe(`cannot write ${run}: ${why}`);
      const writing = () => writeModel(model, TINY, (name) => state(TINY)('weights', name));
      expect(await failure('LT_RUN_WRITE', writing)).toBe(`cannot write ${model}: ${why}`);
      expect(await failure('LT_RUN_WRITE', () => writeCacheFile(cache, () => {}))).toContain(why);
    } finally {
      execFileSync('umount', [mount]);
    }
  });
});
