import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process';
import { accessSync, constants, cpSync, mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { get } from 'node:https';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const CHECKOUT = resolve(import.meta.dirname, '../..');
/** In CI an unreachable registry is a failure. */
const IS_REQUIRED = process.env.LANTRAIN_ALL_DRIVERS !== undefined;
const AWAY = /ENOTCACHED|ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ENETUNREACH|ETIMEDOUT|EHOSTUNREACH/;
const WINDOWS = process.platform === 'win32';
const TINY = ['--preset', 'tiny', '--steps', '5'];
const DIGEST = /^digest +([0-9a-f]{64})/m;
const run = promisify(execFile);

const root = realpathSync(mkdtempSync(join(tmpdir(), 'lantrain package ')));
const home = join(root, 'my home');
const folder = join(root, 'an empty folder');
const children: ChildProcess[] = [];
afterAll(() => {
  for (const child of children) endAll(child);
  rmSync(root, { recursive: true, force: true });
});

/** npx starts lantrain as another process, which a signal to npx does not reach. */
function endAll({ pid, exitCode, signalCode }: ChildProcess): void {
  if (pid === undefined || exitCode !== null || signalCode !== null) return;
  if (WINDOWS) spawnSync('taskkill', ['/pid', String(pid), '/t', '/f']);
  else process.kill(-pid, 'SIGKILL');
}

/**
 * The environment of a user with a blank in the home folder, npm's cache and no checkout, without variables of the npm
 * that runs the tests.
 */
function environment(npmCache: string): NodeJS.ProcessEnv {
  const own = /^npm_|^INIT_CWD$|^LANTRAIN_|^NODE_PATH$/i;
  const rest = Object.entries(process.env).filter(([name]) => !own.test(name));
  return {
    ...Object.fromEntries(rest),
    HOME: home,
    USERPROFILE: home,
    npm_config_cache: npmCache,
    LANTRAIN_TUNE: 'off',
  };
}

interface Packed {
  readonly filename: string;
  readonly size: number;
  readonly files: readonly { readonly path: string }[];
}

let env: NodeJS.ProcessEnv;
let packed: Packed;
/** Why nothing could be installed. */
let away: string | undefined;
/** The digest of five steps of `tiny`, by the installed `train`. */
let digest: string | undefined;

const npm = (...args: string[]) => run('npm', args, { cwd: folder, env, shell: WINDOWS, maxBuffer: 2 ** 24 });

beforeAll(async () => {
  mkdirSync(home);
  mkdirSync(folder);
  const { stdout: cache } = await run('npm', ['config', 'get', 'cache'], { cwd: CHECKOUT, shell: WINDOWS });
  env = environment(cache.trim());
  const pack = await run('npm', ['pack', '--json', '--pack-destination', root], {
    cwd: CHECKOUT,
    env,
    shell: WINDOWS,
    maxBuffer: 2 ** 24,
  });
  // An array or, from npm 12 on, an object with the package's name as key.
  [packed] = Object.values(JSON.parse(pack.stdout)) as Packed[];
  writeFileSync(join(folder, 'package.json'), '{ "type": "module", "private": true }\n');
  const install = ['install', '--omit=dev', '--prefer-offline', '--no-audit', '--no-fund', join(root, packed.filename)];
  await npm(...install).catch((error) => {
    const said = String(error.stderr ?? error);
    if (IS_REQUIRED || !AWAY.test(said)) throw error;
    away = `neither npm's registry nor its cache has the dependencies: ${AWAY.exec(said)?.[0]}`;
  });
});

/** A process in the folder, and its output. */
class Started {
  readonly child: ChildProcess;
  text = '';
  #heard: () => void = () => {};
  readonly #ended: Promise<number | null>;

  constructor(command: string, args: readonly string[], more: NodeJS.ProcessEnv = {}) {
    const stdio = ['ignore', 'pipe', 'pipe'] as const;
    const options = { cwd: folder, env: { ...env, ...more }, shell: WINDOWS, detached: !WINDOWS, stdio: [...stdio] };
    this.child = spawn(command, args, options);
    children.push(this.child);
    for (const stream of [this.child.stdout, this.child.stderr])
      stream?.setEncoding('utf8').on('data', (text) => {
        this.text += text;
        this.#heard();
      });
    this.#ended = new Promise((end) => {
      this.child.on('close', (code) => {
        end(code);
        this.#heard();
      });
    });
  }

  /** Its exit code; null after a signal. */
  get ended(): Promise<number | null> {
    return this.#ended;
  }

  /** The first match in its output. Rejects when it ends before. */
  async printed(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const match = pattern.exec(this.text);
      if (match) return match;
      if (this.child.exitCode !== null || this.child.signalCode !== null)
        throw new Error(`it ended before it printed ${pattern}:\n${this.text}`);
      await new Promise<void>((go) => {
        this.#heard = go;
      });
    }
  }
}

const npx = (args: readonly string[], more?: NodeJS.ProcessEnv) => new Started('npx', ['lantrain', ...args], more);
const COORDINATOR = ['coordinator', '--listen', '127.0.0.1:0', ...TINY];
/** The line that a coordinator prints for other machines. */
const JOIN = /LANTRAIN_TOKEN=(\S+) (.*) worker (wss?:\S+)/;

/**
 * The number of bytes that a coordinator serves at `url`, with its self-signed certificate. Rejects where it serves
 * nothing.
 */
function bytesOf(url: URL): Promise<number> {
  return new Promise((done, fail) => {
    const request = get(url, { rejectUnauthorized: false }, async (response) => {
      if (response.statusCode !== 200) fail(new Error(`${url} answers ${response.statusCode}`));
      let bytes = 0;
      for await (const chunk of response) bytes += chunk.length;
      done(bytes);
    });
    request.on('error', fail);
  });
}

/** An installed worker joins; both end with the digest of `train`. Resolves with the command that was printed for it. */
async function joinedBy(coordinator: Started): Promise<string> {
  const [, LANTRAIN_TOKEN, command, url] = await coordinator.printed(JOIN);
  const worker = npx(['worker', url], { LANTRAIN_TOKEN });
  expect(await coordinator.ended, coordinator.text).toBe(0);
  expect(await worker.ended, worker.text).toBe(0);
  expect(worker.text).not.toContain('LT_');
  expect(DIGEST.exec(coordinator.text)?.[1]).toBe(digest);
  return command;
}

describe('the tarball', () => {
  test('the tarball holds what runs, and nothing of tests, maps and sources', () => {
    const paths = packed.files.map(({ path }) => path);
    for (const path of ['dist/src/cli/main.js', 'dist/src/index.d.ts', 'dist/page/index.html', 'shaders/adamw.wgsl'])
      expect(paths).toContain(path);
    expect(paths).toContain('src/data/moby-dick.txt');
    const surplus = paths.filter((path) => /\.map$|(?<!\.d)\.ts$|^(dist\/)?test\/|^scripts\/|\.setup-/.test(path));
    expect(surplus).toEqual([]);
    expect(packed.size).toBeLessThan(2_000_000);
  });

  test('the tarball installs without development dependencies, and `npx lantrain train` trains', async ({ skip }) => {
    if (away) skip(away);
    if (!WINDOWS) accessSync(join(folder, 'node_modules/lantrain/dist/src/cli/main.js'), constants.X_OK);
    const train = npx(['train', ...TINY]);
    expect(await train.ended, train.text).toBe(0);
    digest = DIGEST.exec(train.text)?.[1];
    expect(digest, train.text).toBeDefined();
    expect(train.text).toContain('npx lantrain generate --run runs/tiny-1');
  });

  test('the tarball has types for a strict program, which compiles against it and trains', async ({ skip }) => {
    if (away) skip(away);
    cpSync(join(import.meta.dirname, 'program.ts'), join(folder, 'program.ts'));
    const options = ['--strict', '--module', 'nodenext', '--target', 'es2022', '--skipLibCheck', 'false'];
    const tsc = join(CHECKOUT, 'node_modules/typescript/bin/tsc');
    const compile = [tsc, ...options, 'program.ts'];
    const { stdout: errors } = await run(process.execPath, compile, { cwd: folder, env }).catch((error) => error);
    expect(errors).toBe('');
    const { stdout } = await run(process.execPath, ['program.js'], { cwd: folder, env });
    expect(JSON.parse(stdout)).toEqual({ path: 'of a program', digest, steps: 5, code: 'LT_USAGE_OPTION' });
  });

  test('the tarball has a coordinator with page and tabs, and a worker; the digest is that of `train`', async ({
    skip,
  }) => {
    if (away) skip(away);
    const coordinator = npx(COORDINATOR);
    const [, page] = await coordinator.printed(/^watch +(http[^\s#]+)/m);
    for (const name of ['', 'page.js', 'page.css', 'tab-worker.js'])
      expect(await bytesOf(new URL(name, page)), name).toBeGreaterThan(500);
    expect(await joinedBy(coordinator)).toBe('npx lantrain');
  });

  test('the tarball has a worker for the coordinator of a checkout, with the digest of `train`', async ({ skip }) => {
    if (away) skip(away);
    const main = join(CHECKOUT, 'dist/src/cli/main.js');
    expect(await joinedBy(new Started(process.execPath, [main, ...COORDINATOR]))).toContain(main);
  });
});
