import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { newToken } from '../../src/net/access.js';
import { adminLinkOf, joinUrlOf, Lantrain, startCoordinator } from '../cluster/processes.js';
import { removeTemporaryFolders, smallCheckout } from '../setup/checkout.js';
import { slowTest } from '../slow.js';
import { IS_THOROUGH } from '../thorough.js';
import { lantrain, SMALL, workFolder } from './run.js';

const folder = workFolder();
const running: Lantrain[] = [];
afterEach(async () => {
  for (const one of running.splice(0)) {
    one.signal('SIGKILL');
    await one.ended;
  }
});
afterAll(() => {
  folder.remove();
  removeTemporaryFolders();
});

/** Nobody listens there. */
const NOWHERE = 'ws://127.0.0.1:9/';
const REMARK = 'the token stood among the arguments';
const OPTIONS = [...SMALL, '--eval-every', '0', '--steps', '30'];

/** The command line of a process that all users can see. */
const listed = (pid: number | string) => readFileSync(`/proc/${pid}/cmdline`, 'utf8');

/** Command lines of this test's processes: those whose environment has `mark`, which only their owner can read. */
function listedWith(mark: string): string[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        return readFileSync(`/proc/${pid}/environ`, 'utf8').includes(mark) ? [listed(pid)] : [];
      } catch {
        // It has ended, or is another user's.
        return [];
      }
    });
}

function work(args: readonly string[], environment: Record<string, string> = {}): Lantrain {
  const worker = new Lantrain(['worker', ...args], folder.path, undefined, environment);
  running.push(worker);
  return worker;
}

async function coordinate(out: string) {
  const started = await startCoordinator([...OPTIONS, '--out', out], folder.path);
  running.push(started.coordinator);
  return started.coordinator;
}

/** The token and the command in the line `join`. */
function joinLine(coordinator: Lantrain): { readonly line: string; readonly token: string; readonly bare: string } {
  const [, line = ''] = /^join {5}(.*)$/m.exec(coordinator.text) ?? [];
  const [, token = '', bare = ''] = /^LANTRAIN_TOKEN=(\S+) .* worker (\S+)$/.exec(line) ?? [];
  return { line, token, bare };
}

describe.skipIf(process.platform !== 'linux')('the list of processes', () => {
  test('the list of processes shows no token of a join URL: it is overwritten at once, or one line says it cannot be', async () => {
    const token = newToken();
    const worker = work([`${NOWHERE}#${token}`, '--name', 'ahab']);
    await worker.printed(/trying again/);
    const shown = listed(Number(worker.child.pid));
    expect(shown).not.toContain(token);
    expect(shown).toContain(`lantrain worker ${NOWHERE}#TOKEN --name ahab`);
    expect(worker.text.split(REMARK).length - 1).toBe(1);
    expect(worker.text).not.toContain(token);
  });

  test('the list of processes shows no token of what npm starts, while set-up is still at work', async () => {
    const [token, admin] = [newToken(), newToken()];
    const link = `wss://h:1/#${token}.x.${admin}`;
    const checkout = smallCheckout("console.log('started', process.argv[3]);\nsetInterval(() => {}, 1000);\n");
    const child = spawn(process.execPath, ['scripts/launch.mjs', 'worker', link], {
      cwd: checkout,
      env: { ...process.env, LANTRAIN_TOKEN: token },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    try {
      await once(child.stderr, 'data');
      expect(listed(Number(child.pid))).toContain('worker wss://h:1/#TOKEN.x');
      expect(listed(Number(child.pid))).not.toContain(admin);
      let said = '';
      for await (const text of child.stdout) {
        said += text;
        if (said.includes('\n')) break;
      }
      expect(said).toBe(`started ${link}\n`);
      expect(listed(Number(child.pid))).not.toContain(token);
    } finally {
      child.kill('SIGKILL');
    }
  });

  slowTest('the list of processes shows no token of a demo, nor of a bench, whose workers are children', async () => {
    const mark = `TOKEN_TEST=${folder.path}`;
    const seen = new Set<string>();
    const look = setInterval(() => {
      for (const line of listedWith(mark)) seen.add(line.replaceAll('\0', ' '));
    }, 20);
    const bench = ['--workers', '1', '--steps', '1', '--skip', '1', '--no-intake'];
    const shape = SMALL.slice(4, SMALL.indexOf('--eval-every'));
    try {
      for (const args of [
        ['demo', ...OPTIONS, '--workers', '1', '--out', 'demo'],
        ['bench', 'cluster', ...shape, ...bench],
      ]) {
        const { code, stderr } = await lantrain(args, { cwd: folder.path, env: { TOKEN_TEST: folder.path } });
        expect(code, stderr).toBe(0);
      }
    } finally {
      clearInterval(look);
    }
    const workers = [...seen].filter((line) => line.includes(' worker ws'));
    expect(workers.length).toBeGreaterThan(1);
    for (const line of workers) expect(line).not.toMatch(/#[\w-]{20}/);
  });
});

describe('a token', () => {
  test('a token comes by the environment in the command that is printed, which can be pasted as it stands', async () => {
    const coordinator = await coordinate('printed');
    const { line, token, bare } = joinLine(coordinator);
    expect(readFileSync(join(folder.path, 'printed', 'cluster', 'token'), 'utf8').trim()).toBe(token);
    expect(bare).toMatch(/^wss:\/\/127\.0\.0\.1:\d+\/#\.[\w-]{43}$/);
    const { status, stdout, stderr } = spawnSync('sh', ['-c', line], { cwd: folder.path, encoding: 'utf8' });
    expect(status, stderr).toBe(0);
    expect(stdout).toContain('the run is done');
    expect(stderr).not.toContain('remark');
    expect(await coordinator.ended).toBe(0);
  });

  test.skipIf(!IS_THOROUGH || spawnSync('bash', ['-c', 'true']).status !== 0)(
    'a token comes from a file or standard input as well',
    async () => {
      const coordinator = await coordinate('sources');
      const url = await joinUrlOf(coordinator);
      const { token, bare } = joinLine(coordinator);
      expect(url).toContain(token);
      writeFileSync(join(folder.path, 'token.txt'), `${token}\n`, { mode: 0o600 });
      const worker = work([bare, '--token-file', 'token.txt', '--patience', '5']);
      await worker.printed(/^joined /m);
      expect(worker.text).not.toContain('remark');
      const main = join(import.meta.dirname, '../../dist/src/cli/main.js');
      const piped = spawnSync(process.execPath, [main, 'worker', bare], {
        cwd: folder.path,
        encoding: 'utf8',
        input: `${token}\n`,
      });
      expect(piped.status, piped.stderr).toBe(0);
      expect(piped.stdout).toMatch(/^joined /m);
      expect(await coordinator.ended).toBe(0);
    },
  );

  test.skipIf(process.platform === 'win32' || !IS_THOROUGH)(
    'a token is taken from a small regular file only, and nothing is waited for',
    async () => {
      const at = (name: string) => join(folder.path, name);
      mkdirSync(at('folder'));
      spawnSync('mkfifo', [at('fifo')]);
      writeFileSync(at('big'), 'x'.repeat(2000));
      writeFileSync(at('wrong'), 'no token at all');
      for (const [file, why] of [
        ['fifo', /cannot be read: it is a pipe/],
        ['folder', /cannot be read: illegal operation on a directory/],
        ['/dev/zero', /cannot be read: it is a device/],
        ['big', /cannot be read: it has more than 1000 bytes/],
        ['missing', /cannot be read: no such file/],
        ['wrong', /the token from wrong is not one/],
      ] as const) {
        const { code, stdout, stderr } = await lantrain(['worker', NOWHERE, '--token-file', file], {
          cwd: folder.path,
        });
        expect({ code, stdout }, file).toEqual({ code: 1, stdout: '' });
        expect(stderr, file).toMatch(/^error LT_CLUSTER_TOKEN: .*\n$/);
        expect(stderr, file).toMatch(why);
      }
      const both = await lantrain(['worker', `${NOWHERE}#${newToken()}`, '--token-file', 'big'], { cwd: folder.path });
      expect(both.code).toBe(2);
      expect(both.stderr).toMatch(/LT_USAGE_OPTION: the URL has a token and --token-file names another/);
    },
  );
});

slowTest('the admin link is in no log: its file is named, which is the owner’s', async () => {
  const coordinator = await coordinate('logged');
  const link = await adminLinkOf(coordinator, folder.path);
  const [, admin = ''] = /\.([\w-]{32})$/.exec(link) ?? [];
  expect(admin).not.toBe('');
  expect(coordinator.text).not.toContain(admin);
  expect(coordinator.text).toMatch(/^admin {4}https:.*ADMIN with what is in logged\/cluster\/admin-token for ADMIN$/m);
  if (process.platform !== 'win32')
    expect(statSync(join(folder.path, 'logged', 'cluster', 'admin-token')).mode & 0o077).toBe(0);
});

test.skipIf(!IS_THOROUGH || spawnSync('script', ['--version']).status !== 0)(
  'the admin link is shown on a terminal',
  async () => {
    const main = join(import.meta.dirname, '../../dist/src/cli/main.js');
    const args = ['train', ...SMALL, '--eval-every', '0', '--steps', '2', '--watch', '--out', 'seen'];
    const { stdout } = spawnSync('script', ['-qec', [process.execPath, main, ...args].join(' '), '/dev/null'], {
      cwd: folder.path,
      encoding: 'utf8',
    });
    const admin = readFileSync(join(folder.path, 'seen', 'cluster', 'admin-token'), 'utf8').trim();
    expect(stdout).toMatch(new RegExp(`admin {4}http://127\\.0\\.0\\.1:\\d+/#[\\w-]{32}\\.\\.${admin}`));
  },
);
