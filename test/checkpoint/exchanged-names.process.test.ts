import fs, { readFileSync, renameSync, rmSync } from 'node:fs';
import files from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { EventLog } from '../../src/checkpoint/event-log.js';
import { RunLock } from '../../src/checkpoint/lock.js';
import { RunDirectory } from '../../src/checkpoint/run.js';
import { LantrainError } from '../../src/errors.js';
import { loadOrCreateAccess } from '../../src/net/access.js';
import { replaceBuiltin } from '../replace-builtin.js';
import { scratch, state, TINY } from './helpers.js';
import { Outside, type Plant, plant } from './plants.js';

/** Called with the path of a file just before it is opened, as a fast process might act. */
const last = { moment: undefined as ((path: string) => void) | undefined };
const tell = (path: unknown) => {
  const { moment } = last;
  // The callback opens files too.
  last.moment = undefined;
  moment?.(String(path));
  last.moment = moment;
};
const { openSync } = fs;
const { open } = files;
replaceBuiltin(fs, {
  openSync(path, ...rest) {
    tell(path);
    return openSync(path, ...rest);
  },
});
replaceBuiltin(files, {
  open(path, ...rest) {
    tell(path);
    return open(path, ...rest);
  },
});

const CONFIG = { version: '0.1.0', model: TINY };
const next = (step: number) => ({ model: TINY, step, version: '0.1.0', tokensSeen: 0, read: state(TINY, step) });
const EXCHANGES: readonly Plant[] = ['a link to a file', 'a link to nothing', 'a second name of a file', 'a pipe'];

let run: string;
let outside: Outside;
let before: unknown;

beforeEach(async () => {
  const dir = scratch();
  run = join(dir, 'run');
  (await RunDirectory.create(run, CONFIG)).close();
  outside = new Outside(join(dir, 'outside'));
  before = outside.snapshot();
});
afterEach(() => {
  last.moment = undefined;
  expect(outside.snapshot(), 'what lies outside of the run').toEqual(before);
});

/** Replaces a name of the run by a plant just before it is opened. */
function exchange(name: string, what: Plant): void {
  last.moment = (path) => {
    if (path === join(run, name)) plant(run, name, what, outside);
  };
}

async function refusal(act: () => unknown): Promise<string | undefined> {
  try {
    await act();
    return undefined;
  } catch (error) {
    expect(error).toBeInstanceOf(LantrainError);
    return (error as LantrainError).code;
  } finally {
    last.moment = undefined;
  }
}

test.skipIf(process.platform === 'win32').each(EXCHANGES)(
  'a file that turns into %s between the look at it and its opening is refused',
  async (what) => {
    const log = new EventLog(run);
    for (const [name, use] of [
      ['metrics.jsonl', () => log.append({ event: 'x' })],
      ['samples.txt', () => log.append({ event: 'sample', step: 1, text: 'chosen' })],
    ] as const) {
      for (const isThere of [false, true]) {
        rmSync(join(run, name), { force: true });
        if (isThere) use();
        log.close();
        exchange(name, what);
        expect(await refusal(use), `${name}, ${isThere ? 'there' : 'new'}`).toBe('LT_RUN_FOREIGN');
        log.close();
        rmSync(join(run, name));
      }
    }
    log.append({ event: 'x' });
    log.close();
    exchange('metrics.jsonl', what);
    expect(await refusal(() => log.cutBack(0))).toBe('LT_RUN_FOREIGN');
    const { token } = await loadOrCreateAccess(join(run, 'cluster'));
    exchange('cluster/token', what);
    expect(await refusal(() => loadOrCreateAccess(join(run, 'cluster')))).toBe('LT_RUN_FOREIGN');
    expect(token).toHaveLength(32);
  },
);

test.skipIf(process.platform === 'win32')('a lock that turns into a link is not read through it', async () => {
  for (const isThere of [false, true]) {
    const lock = RunLock.take(run);
    if (!isThere) lock.release();
    exchange('lock', 'a link to a file');
    expect(await refusal(() => RunLock.check(run))).toBe('LT_RUN_FOREIGN');
    lock.release();
    rmSync(join(run, 'lock'));
  }
});

test.skipIf(process.platform === 'win32').each(EXCHANGES)(
  '%s that comes at the very name of a temporary is not written to',
  async (what) => {
    const opened = await RunDirectory.open(run, 'write');
    const uses: readonly (readonly [string, () => Promise<unknown>])[] = [
      ['report.html', () => opened.writeReport('<html/>')],
      ['loss.svg', () => opened.writePlot('<svg/>')],
      ['checkpoints/', () => opened.writeCheckpoint(next(1))],
      ['cluster/', () => loadOrCreateAccess(join(run, 'cluster'))],
    ];
    for (const [name, use] of uses) {
      let planted = '';
      last.moment = (path) => {
        if (planted !== '' || !path.startsWith(join(run, name)) || !path.endsWith('.partial')) return;
        planted = path;
        plant(path, '', what, outside);
      };
      expect(await refusal(use), name).toMatch(/^LT_(RUN_WRITE|CLUSTER_ACCESS)$/);
      expect(planted).not.toBe('');
      rmSync(planted, { force: true });
    }
    opened.close();
  },
);

test.skipIf(process.platform === 'win32')(
  'a folder of secrets that turns into a link is not opened to others',
  async () => {
    await loadOrCreateAccess(join(run, 'cluster'));
    const key = readFileSync(join(run, 'cluster', 'key.pem'), 'utf8');
    let isExchanged = false;
    last.moment = (path) => {
      if (isExchanged || path !== join(run, 'cluster')) return;
      isExchanged = true;
      renameSync(path, join(run, 'aside'));
      plant(run, 'cluster', 'a link to a folder', outside);
    };
    expect(await refusal(() => loadOrCreateAccess(join(run, 'cluster')))).toMatch(/^LT_(RUN_FOREIGN|CLUSTER_ACCESS)$/);
    expect(isExchanged).toBe(true);
    expect(readFileSync(join(run, 'aside', 'key.pem'), 'utf8')).toBe(key);
  },
);
