import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { checkout, removeTemporaryFolders, smallCheckout, temporaryFolder } from './checkout.js';

const children: ChildProcess[] = [];
afterAll(() => {
  for (const child of children) child.kill('SIGKILL');
  removeTemporaryFolders();
});

/** A program that prints its arguments and, on SIGTERM, ends after its last checkpoint. */
const RUN = `
process.on('SIGTERM', () => {
  console.log('the last checkpoint');
  setTimeout(() => process.exit(5), 300);
});
let interrupts = 0;
process.on('SIGINT', () => {
  console.log('interrupt', ++interrupts);
  if (interrupts === 2) process.exit(6);
});
if (process.argv.includes('wait')) setInterval(() => {}, 1000);
console.log(process.pid, process.argv.slice(2).join('|'));
`;

/** The environment without variables of the npm that runs the tests. `npm`: a script that replaces npm in PATH. */
function environment(npm?: string): NodeJS.ProcessEnv {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^npm_|^INIT_CWD$/i.test(name)));
  if (npm === undefined) return env;
  const bin = join(temporaryFolder(), 'bin');
  mkdirSync(bin);
  writeFileSync(join(bin, 'npm'), `#!/bin/sh\n${npm}\n`);
  chmodSync(join(bin, 'npm'), 0o755);
  return { ...env, PATH: `${bin}${delimiter}${process.env.PATH}` };
}

function launch(folder: string, args: readonly string[], npm?: string) {
  const { status, stdout, stderr } = spawnSync(process.execPath, ['scripts/launch.mjs', ...args], {
    cwd: folder,
    encoding: 'utf8',
    env: environment(npm),
  });
  return { status, stdout, stderr };
}

describe.skipIf(process.platform === 'win32')('npm run lantrain', () => {
  // Built by the first test, used by the others.
  const folder = smallCheckout(RUN, true);

  test('npm run lantrain sets a fresh checkout up, runs what was asked for, and is silent about it the next time', () => {
    const install = `[ "$1" = ci ] && ln -s '${join(checkout, 'node_modules')}' node_modules`;
    const first = launch(folder, ['worker', 'wss://h:1/#a b'], install);
    expect(first.stderr).toMatch(/^set-up: installing.*\nset-up: building.*\n$/);
    expect(first.stdout).toMatch(/^\d+ worker\|wss:\/\/h:1\/#a b\n$/);
    expect(first.status).toBe(0);
    const second = launch(folder, ['worker'], 'exit 1');
    expect(second).toEqual({ status: 0, stderr: '', stdout: expect.stringMatching(/^\d+ worker\n$/) });
  });

  test('npm run lantrain says what is missing where it cannot run, instead of a module that is not found', () => {
    const { status, stdout, stderr } = launch(
      smallCheckout(RUN, true),
      ['worker'],
      'echo "the network is away"; exit 1',
    );
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    expect(stderr).toMatch(/set-up: npm ci failed:\nthe network is away\n$/);
    expect(stderr).not.toMatch(/Cannot find module|^\s+at /m);
  });

  test.each([
    ['run', '-s', 'lantrain', '--', 'train', 'wait'],
    ['start', '-s', '--', 'wait'],
  ])('npm %s hands SIGTERM to the run, and waits for its last checkpoint', async (...args) => {
    const npm = spawn('npm', args, { cwd: folder, env: environment(), stdio: ['ignore', 'pipe', 'inherit'] });
    children.push(npm);
    let said = '';
    npm.stdout.setEncoding('utf8');
    const exited = once(npm, 'exit');
    const closed = once(npm, 'close');
    while (!said.includes('wait')) said += (await once(npm.stdout, 'data'))[0];
    const pid = Number(/^(\d+) .*wait$/m.exec(said)?.[1]);
    npm.stdout.on('data', (text) => {
      said += text;
    });
    npm.kill('SIGTERM');
    try {
      expect(await exited).toEqual([5, null]);
      await closed;
      expect(said).toMatch(/the last checkpoint\n$/);
      expect(() => process.kill(pid, 0), 'nobody is left').toThrow(/ESRCH/);
    } finally {
      // A process that outlived npm still has this pipe open.
      if (!npm.stdout.closed) process.kill(pid, 'SIGKILL');
    }
  });

  test('npm run lantrain takes Ctrl-C once, though the terminal gives it to npm and npm hands it on', async () => {
    const args = ['run', '-s', 'lantrain', '--', 'wait'];
    const stdio = ['ignore', 'pipe', 'inherit'] as const;
    // Its own process group, like a job in a terminal.
    const npm = spawn('npm', args, { cwd: folder, env: environment(), stdio: [...stdio], detached: true });
    children.push(npm);
    let said = '';
    npm.stdout.setEncoding('utf8').on('data', (text) => {
      said += text;
    });
    const heard = async (text: string) => {
      while (!said.includes(text)) await once(npm.stdout, 'data');
    };
    const closed = once(npm, 'close');
    await heard('wait');
    const group = -(npm.pid ?? 0);
    process.kill(group, 'SIGINT');
    await heard('interrupt 1');
    await new Promise((go) => setTimeout(go, 800));
    expect(said).not.toContain('interrupt 2');
    process.kill(group, 'SIGINT');
    expect(await closed).toEqual([6, null]);
    expect(said).toContain('interrupt 2');
  });

  test('npm run lantrain runs an installation without what only development needs, as long as it is built', () => {
    const lock = JSON.parse(readFileSync(join(folder, 'package-lock.json'), 'utf8'));
    const installed: typeof lock = { packages: {} };
    for (const [name, one] of Object.entries<{ dev?: boolean; optional?: boolean }>(lock.packages))
      if (name !== '' && one.dev !== true && existsSync(join(folder, name, 'package.json')))
        installed.packages[name] = one;
    spawnSync('rm', [join(folder, 'node_modules')]);
    for (const name of Object.keys(installed.packages)) {
      mkdirSync(join(folder, name), { recursive: true });
      writeFileSync(join(folder, name, 'package.json'), '{}');
    }
    writeFileSync(join(folder, 'node_modules/.package-lock.json'), JSON.stringify(installed));
    expect(launch(folder, ['generate'], 'exit 1')).toMatchObject({ status: 0, stderr: '' });
  });
});

test("package.json's scripts begin with what cmd takes as well: exec.cmd stands for sh's exec there", () => {
  const { scripts } = JSON.parse(readFileSync(join(checkout, 'package.json'), 'utf8'));
  for (const name of ['lantrain', 'start']) expect(scripts[name]).toMatch(/^exec node scripts\/launch\.mjs( |$)/);
  expect(
    readFileSync(join(checkout, 'exec.cmd'), 'utf8')
      .split('\n')
      .filter((line) => !/^@rem |^$/.test(line)),
  ).toEqual(['@%*']);
});
