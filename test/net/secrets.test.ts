import { createHmac } from 'node:crypto';
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { ownMark } from '../../src/files/state-folder.js';
import {
  type Access,
  loadOrCreateAccess,
  newToken,
  readIncarnation,
  readPort,
  saveIncarnation,
  savePort,
} from '../../src/net/access.js';

let dir: string;
let folder: string;
const at = (...names: string[]) => join(dir, ...names);
const file = (name: string) => join(folder, name);

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'lantrain-secrets-'));
  folder = at('cluster');
  vi.stubEnv('LANTRAIN_STATE', at('state'));
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(dir, { recursive: true, force: true });
});

type All = Pick<Access, 'token' | 'admin' | 'certificate' | 'key' | 'remark'>;

/** One start of a coordinator. */
async function start(where = folder): Promise<All> {
  const { token, admin, certificate, key, remark } = await loadOrCreateAccess(where);
  return { token, admin, certificate, key, remark };
}

function expectAllNew(before: Omit<All, 'remark'>, after: All): void {
  for (const secret of ['token', 'admin', 'certificate', 'key'] as const)
    expect(after[secret], secret).not.toBe(before[secret]);
}

describe('secrets of a run', () => {
  test('secrets stay for the user who made them, in the folder where he did, also under another name', async () => {
    const first = await start();
    expect(first.remark).toBeUndefined();
    await savePort(folder, 7041);
    await saveIncarnation(folder, 3);
    expect(await start()).toEqual(first);
    renameSync(folder, at('renamed'));
    expect(await start(at('renamed'))).toEqual(first);
  });

  test('secrets are new for another user or on another machine, which is said once', async () => {
    const first = await start();
    vi.stubEnv('LANTRAIN_STATE', at('state of another'));
    const second = await start();
    expect(second.remark).toBe(
      'the run comes from another machine, user or folder: new token, new certificate; links from before do not work',
    );
    expectAllNew(first, second);
    expect(await start()).toEqual({ ...second, remark: undefined });
    // Back in the first state folder, the secrets are another user's again.
    vi.stubEnv('LANTRAIN_STATE', at('state'));
    expectAllNew(second, await start());
  });

  test('secrets are new in a copy, for whoever was sent one knows them', async () => {
    const first = await start();
    cpSync(folder, at('copy'), { recursive: true, preserveTimestamps: true });
    expectAllNew(first, await start(at('copy')));
    expect(await start(), 'the original').toEqual(first);
  });

  test('secrets of version 0.1.0, which have no marks, are new once', async () => {
    const first = await start();
    rmSync(file('marks.json'));
    const second = await start();
    expect(second.remark).toContain('of an earlier version, or of another machine or user: new token, new certificate');
    expectAllNew(first, second);
    expect(await start()).toEqual({ ...second, remark: undefined });
  });

  test.each(['token', 'admin-token', 'key.pem', 'certificate.pem'])(
    'secrets are all new where %s alone was put there by another, whatever marks he made',
    async (name) => {
      const first = await start();
      const planted = name.endsWith('token') ? newToken() : readFileSync(file(name), 'utf8').replace('A', 'B');
      const { ino } = statSync(folder);
      const guess = createHmac('sha256', '').update(JSON.stringify(['', '', name, planted, String(ino), '0']));
      for (const mark of [undefined, '', 'x', guess.digest('base64url')]) {
        const marks = JSON.parse(readFileSync(file('marks.json'), 'utf8'));
        writeFileSync(file('marks.json'), JSON.stringify({ ...marks, [name]: mark }));
        writeFileSync(file(name), planted);
        const after = await start();
        expectAllNew(first, after);
        expect(after.remark).toBeDefined();
        expect(readFileSync(file(name), 'utf8')).not.toBe(planted);
      }
    },
  );

  test('secrets do not pass by the mark of another secret, nor by marks that are none', async () => {
    const first = await start();
    const marks = JSON.parse(readFileSync(file('marks.json'), 'utf8'));
    const admin = readFileSync(file('admin-token'), 'utf8');
    // A person with the watcher's link must not be able to control the run.
    writeFileSync(file('admin-token'), first.token);
    writeFileSync(file('marks.json'), JSON.stringify({ ...marks, 'admin-token': marks.token }));
    const second = await start();
    expectAllNew(first, second);
    expect(second.admin).not.toBe(admin);
    for (const text of ['', '{', '[]', '{"token":1}', 'null']) {
      const before = await start();
      writeFileSync(file('marks.json'), text);
      expectAllNew(before, await start());
    }
  });

  test("only the token is new with the user's own certificate", async () => {
    await start(at('own'));
    const own = { cert: at('own', 'certificate.pem'), key: at('own', 'key.pem') };
    const first = await loadOrCreateAccess(folder, own);
    expect(await loadOrCreateAccess(folder, own)).toEqual(first);
    rmSync(file('marks.json'));
    const second = await loadOrCreateAccess(folder, own);
    expect(second.remark).toMatch(/: new token; links/);
    expect(second.fingerprint).toBe(first.fingerprint);
  });

  test('secrets work where there is no place to remember anything, and the line names the way out', async () => {
    writeFileSync(at('file'), '');
    vi.stubEnv('LANTRAIN_STATE', at('file', 'state'));
    const first = await start();
    expect(first.remark).toBeUndefined();
    // Scripts read the token there while the run goes on.
    expect(readFileSync(file('token'), 'utf8')).toBe(first.token);
    const second = await start();
    expectAllNew(first, second);
    expect(second.remark).toMatch(
      /^your state folder cannot be used \(not a directory \(ENOTDIR\); LANTRAIN_STATE names/,
    );
    vi.stubEnv('LANTRAIN_STATE', at('state'));
    await start();
    expect((await start()).remark).toBeUndefined();
  });

  test.skipIf(process.platform === 'win32')('only their owner can read secrets, also where others could', async () => {
    await start();
    await savePort(folder, 1);
    await saveIncarnation(folder, 1);
    const modes = () =>
      Object.fromEntries(readdirSync(folder).map((name) => [name, statSync(file(name)).mode & 0o777]));
    expect(new Set(Object.values(modes()))).toEqual(new Set([0o600]));
    expect(statSync(at('state', 'key')).mode & 0o777).toBe(0o600);
    expect(statSync(at('state')).mode & 0o777).toBe(0o700);
    for (const path of [file('token'), file('key.pem'), file('admin-token'), at('state', 'key')])
      chmodSync(path, 0o644);
    chmodSync(folder, 0o777);
    await start();
    expect(new Set(Object.values(modes()))).toEqual(new Set([0o600]));
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    expect(statSync(at('state', 'key')).mode & 0o777).toBe(0o600);
  });

  test('a start that was cut off leaves no secrets behind', async () => {
    await start();
    for (const name of ['token.4711.partial', 'key.pem.0123456789abcdef.partial', 'mine.partial'])
      writeFileSync(file(name), '');
    await start();
    expect(readdirSync(folder).filter((name) => name.endsWith('.partial'))).toEqual(['mine.partial']);
  });
});

describe("the user's key", () => {
  test("the user's key is one, however many processes ask for it first", async () => {
    const marks = await Promise.all(Array.from({ length: 8 }, () => ownMark(['a'])));
    expect(new Set(marks).size).toBe(1);
    expect(await ownMark(['b'])).not.toBe(marks[0]);
    vi.stubEnv('LANTRAIN_STATE', at('other'));
    expect(await ownMark(['a'])).not.toBe(marks[0]);
  });

  test("the user's key is made again where it is damaged", async () => {
    const mark = await ownMark(['a']);
    writeFileSync(at('state', 'key'), 'half');
    const again = await ownMark(['a']);
    expect(again).not.toBe(mark);
    expect(await ownMark(['a'])).toBe(again);
  });

  test.skipIf(process.platform === 'win32')("the user's key is not read through a link", async () => {
    mkdirSync(at('state'));
    writeFileSync(at('elsewhere'), `${'k'.repeat(43)}\n`);
    symlinkSync(at('elsewhere'), at('state', 'key'));
    await expect(ownMark(['a'])).rejects.toThrow(expect.objectContaining({ code: 'LT_RUN_FOREIGN' }));
    expect(readFileSync(at('elsewhere'), 'utf8')).toBe(`${'k'.repeat(43)}\n`);
  });
});

describe('values that lie beside the secrets', () => {
  const put = (name: string, text: string) => {
    mkdirSync(folder, { recursive: true });
    writeFileSync(file(name), text);
  };

  test('the count of starts comes back, and begins with none', async () => {
    expect(await readIncarnation(folder)).toBe(0);
    await saveIncarnation(folder, 7);
    expect(await readIncarnation(folder)).toBe(7);
    // As 0.1.0 wrote it.
    put('incarnation', '2\n');
    expect(await readIncarnation(folder)).toBe(2);
    put('incarnation', String(2 ** 31 - 2));
    expect(await readIncarnation(folder)).toBe(2 ** 31 - 2);
  });

  test.each([
    '-5',
    '0',
    '2147483647',
    '4294967295',
    '99999999999999999999',
    '1e3',
    '0x7',
    '1.5',
    'NaN',
    '',
    '7 8',
    ' 7',
  ])('a count of starts of %j is refused, for frames carry it in 32 bits and it only grows', async (text) => {
    put('incarnation', text);
    await expect(readIncarnation(folder)).rejects.toThrow(
      expect.objectContaining({
        code: 'LT_CHECKPOINT_CORRUPT',
        message: `${file('incarnation')} counts the starts of a coordinator, and is no whole number below 2147483647; remove it`,
      }),
    );
  });

  test.each(['-1', '0', '65536', '1e3', '0x50', '80.5', '', 'x'])('a port of %j is no port', async (text) => {
    put('port', text);
    expect(await readPort(folder)).toBeUndefined();
    put('port', '65535');
    expect(await readPort(folder)).toBe(65535);
  });
});
