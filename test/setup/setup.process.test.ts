import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { parseDeb822, parseOneLine, releaseSources, writeDeb822 } from '../../scripts/setup/apt-sources.mjs';
import { dependenciesMatch } from '../../scripts/setup/dependencies.mjs';
import { chooseSuite, manualCommands } from '../../scripts/setup/driver-commands.mjs';
import { refuseNode } from '../../scripts/setup/node-version.mjs';
import { parseOsRelease } from '../../src/node/vulkan.mjs';
import { checkout, removeTemporaryFolders, smallCheckout, temporaryFolder } from './checkout.js';

interface Lock {
  packages: Record<string, { version?: string; integrity?: string; optional?: boolean; os?: string[]; cpu?: string[] }>;
}

afterAll(removeTemporaryFolders);

function runNode(args: string[], options: { cwd?: string; env?: NodeJS.ProcessEnv } = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', ...options });
  return { status, stdout, stderr };
}

const runSetup = (cwd: string, env: NodeJS.ProcessEnv = {}) =>
  runNode(['scripts/setup/setup.mjs'], { cwd, env: { ...process.env, ...env } });

/** All files and folders below `folder`, with the time of their last change. */
function times(folder: string): Record<string, number> {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter(
    (name) => !name.startsWith('node_modules'),
  );
  return Object.fromEntries(['.', ...names].sort().map((name) => [name, statSync(join(folder, name)).mtimeMs]));
}

describe('set-up', () => {
  test('set-up builds once, then says nothing and touches nothing', () => {
    const folder = smallCheckout();
    const first = runSetup(folder);
    expect(first).toMatchObject({ status: 0, stdout: '' });
    expect(first.stderr).toContain('building');
    expect(runNode([join(folder, 'dist/src/cli/main.js')]).stdout).toBe('built\n');
    const before = times(folder);
    expect(before).not.toHaveProperty('dist/.setup-lock');

    expect(runSetup(folder)).toEqual({ status: 0, stdout: '', stderr: '' });
    expect(times(folder)).toEqual(before);
  });

  test('set-up builds again after a change, and leaves nothing of a source that is gone', () => {
    const folder = smallCheckout();
    writeFileSync(join(folder, 'src/old.ts'), 'export const old = 1;\n');
    expect(runSetup(folder).status).toBe(0);
    expect(existsSync(join(folder, 'dist/src/old.js'))).toBe(true);

    rmSync(join(folder, 'src/old.ts'));
    writeFileSync(join(folder, 'src/cli/main.ts'), "console.log('changed');\n");
    expect(runSetup(folder).status).toBe(0);
    expect(runNode([join(folder, 'dist/src/cli/main.js')]).stdout).toBe('changed\n');
    expect(existsSync(join(folder, 'dist/src/old.js'))).toBe(false);
    expect(existsSync(join(folder, 'dist/src/old.js.map'))).toBe(false);
  });

  test('set-up prints the compiler errors of a build that fails, keeps the old build and goes on once they are mended', () => {
    const folder = smallCheckout();
    expect(runSetup(folder).status).toBe(0);
    writeFileSync(join(folder, 'src/cli/main.ts'), 'const n: number = "text";\nconsole.log(n);\n');
    for (const attempt of [1, 2]) {
      const broken = runSetup(folder);
      expect(broken.status, `attempt ${attempt}`).toBe(1);
      expect(broken.stderr).toContain('src/cli/main.ts(1,7): error TS2322');
      expect(runNode([join(folder, 'dist/src/cli/main.js')]).stdout).toBe('built\n');
    }

    writeFileSync(join(folder, 'src/cli/main.ts'), "console.log('mended');\n");
    expect(runSetup(folder).status).toBe(0);
    expect(runNode([join(folder, 'dist/src/cli/main.js')]).stdout).toBe('mended\n');
  });

  test('set-up refuses an old Node in one line', () => {
    const { engines } = JSON.parse(readFileSync(join(checkout, 'package.json'), 'utf8'));
    const oldest = engines.node.replace('>=', '');
    expect(refuseNode(`${oldest}.0.0`)).toBeUndefined();
    expect(refuseNode('26.1.0')).toBeUndefined();
    expect(refuseNode('19.9.0')).toContain(`needs Node ${oldest} or newer`);
    const folder = smallCheckout();
    const pretend = join(folder, 'pretend.cjs');
    writeFileSync(
      pretend,
      "Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '18.20.1' } });",
    );
    const result = runNode(['-r', pretend, 'scripts/setup/setup.mjs'], { cwd: folder });
    expect(result.status).toBe(1);
    expect(result.stderr).toMatch(/^set-up: lantrain needs Node 20 or newer, this is Node 18\.20\.1: .*\n$/);
    expect(existsSync(join(folder, 'dist'))).toBe(false);
  });

  test.skipIf(process.platform !== 'linux')('set-up names the variable that hides a driver which works', () => {
    const result = runSetup(smallCheckout(), { VK_DRIVER_FILES: '/nonexistent.json' });
    expect(result.status).toBe(1);
    expect(result.stderr).toMatch(/VK_DRIVER_FILES=\/nonexistent\.json hides '.+', which works; unset it/);
  });
});

describe('dependencies', () => {
  const lock: Lock = {
    packages: {
      '': {},
      'node_modules/a': { version: '1.0.0', integrity: 'sha512-a' },
      'node_modules/b-linux': { version: '1.0.0', optional: true, os: ['linux'], cpu: ['x64'] },
      'node_modules/b-darwin': { version: '1.0.0', optional: true, os: ['darwin'], cpu: ['arm64'] },
    },
  };
  const installed = (changes: Lock['packages'] = {}): Lock => ({
    packages: {
      'node_modules/a': lock.packages['node_modules/a'],
      'node_modules/b-linux': { version: '1.0.0' },
      ...changes,
    },
  });

  test('dependencies match when all is there that this platform needs', () => {
    expect(dependenciesMatch(lock, installed(), 'linux', 'x64')).toBe(true);
  });

  test('dependencies do not match when one is missing, differs, is not asked for, or is for another platform', () => {
    expect(dependenciesMatch(lock, { packages: {} }, 'win32', 'x64')).toBe(false);
    const other = { 'node_modules/a': { version: '1.0.1', integrity: 'sha512-a' } };
    expect(dependenciesMatch(lock, installed(other), 'linux', 'x64')).toBe(false);
    const changed = { 'node_modules/a': { version: '1.0.0', integrity: 'sha512-b' } };
    expect(dependenciesMatch(lock, installed(changed), 'linux', 'x64')).toBe(false);
    expect(dependenciesMatch(lock, installed({ 'node_modules/c': {} }), 'linux', 'x64')).toBe(false);
    expect(dependenciesMatch(lock, installed(), 'darwin', 'arm64')).toBe(false);
  });
});

const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';
const deb822 = `# the archive
Types: deb deb-src
# a comment inside
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By: ${keyring}

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mQIN
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
URIs: http://third.example/apt
Suites: bookworm
Components: stable

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
`;

describe("apt's sources", () => {
  test("apt's sources are read in deb822 format: comments, disabled stanzas, keys in place", () => {
    const stanzas = parseDeb822(deb822);
    expect(stanzas.map((stanza) => stanza.uris)).toEqual([
      ['http://mirror.example/debian'],
      ['http://mirror.example/debian-security'],
      ['http://third.example/apt'],
    ]);
    expect(stanzas[0]).toEqual({
      uris: ['http://mirror.example/debian'],
      suites: ['bookworm', 'bookworm-updates'],
      components: ['main', 'contrib'],
      options: [['Signed-By', keyring]],
    });
    expect(stanzas[1]?.options[0]?.[1]).toMatch(/^-----BEGIN .*\n \.\n mQIN\n -----END PGP PUBLIC KEY BLOCK-----$/);
  });

  test("apt's sources are read in the one-line format", () => {
    const text = [
      '# deb http://off.example/debian bookworm main',
      'deb-src http://mirror.example/debian bookworm main',
      `deb [arch=amd64,arm64 signed-by=${keyring}] http://mirror.example/debian bookworm main contrib # why`,
      'deb http://mirror.example/debian bookworm-updates main',
    ].join('\n');
    expect(parseOneLine(text)).toEqual([
      {
        uris: ['http://mirror.example/debian'],
        suites: ['bookworm'],
        components: ['main', 'contrib'],
        options: [
          ['Architectures', 'amd64 arm64'],
          ['signed-by', keyring],
        ],
      },
      { uris: ['http://mirror.example/debian'], suites: ['bookworm-updates'], components: ['main'], options: [] },
    ]);
  });

  test("apt's sources give the release's suites and its backports, same mirror and key, third parties left out", () => {
    const { release, backports } = releaseSources(parseDeb822(deb822), 'bookworm');
    expect(release.map((stanza) => stanza.suites)).toEqual([['bookworm', 'bookworm-updates'], ['bookworm-security']]);
    expect(backports).toEqual([
      {
        uris: ['http://mirror.example/debian'],
        suites: ['bookworm-backports'],
        components: ['main'],
        options: [['Signed-By', keyring]],
      },
    ]);
    expect(parseDeb822(writeDeb822([...release, ...backports]))).toEqual([...release, ...backports]);
  });

  test("apt's sources are understood where they name the release by its state", () => {
    const stanzas = parseOneLine('deb http://mirror.example/debian stable main');
    const { release, backports } = releaseSources(stanzas, 'bookworm');
    expect(release[0]?.suites).toEqual(['stable']);
    expect(backports[0]?.suites).toEqual(['bookworm-backports']);
    expect(releaseSources([], 'bookworm')).toEqual({ release: [], backports: [] });
  });
});

describe('the driver', () => {
  test('the driver comes from the release if it is new enough there, else from backports, else from nowhere', () => {
    expect(chooseSuite('25.0.7-2', '')).toBe('release');
    expect(chooseSuite('1:24.0.5-1ubuntu1', '25.0.7')).toBe('release');
    expect(chooseSuite('22.3.6-1+deb12u1', '25.0.7-2~bpo12+1')).toBe('backports');
    expect(chooseSuite('', '25.0.7-2~bpo12+1')).toBe('backports');
    expect(chooseSuite('23.2.1-1ubuntu3', '')).toBeUndefined();
  });

  test('the driver can be installed by hand with the printed commands of each distribution', () => {
    const debian = parseOsRelease('ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n');
    const stanzas = parseDeb822(deb822);
    expect(manualCommands({ release: debian, stanzas, ownVersion: '', sudo: true })).toEqual([
      `echo 'deb [signed-by=${keyring}] http://mirror.example/debian bookworm-backports main' | ` +
        'sudo tee /etc/apt/sources.list.d/bookworm-backports.list',
      'sudo apt-get update',
      'sudo apt-get install --no-install-recommends -t bookworm-backports mesa-vulkan-drivers libvulkan1',
    ]);
    expect(manualCommands({ release: debian, stanzas, ownVersion: '25.0.7-2', sudo: false })).toEqual([
      'apt-get update',
      'apt-get install --no-install-recommends mesa-vulkan-drivers libvulkan1',
    ]);
    const mint = { ID: 'linuxmint', ID_LIKE: 'ubuntu debian', UBUNTU_CODENAME: 'noble' };
    expect(manualCommands({ release: mint, stanzas: [], ownVersion: '', sudo: true })[1]).toBe(
      'sudo apt-get install --no-install-recommends mesa-vulkan-drivers libvulkan1',
    );
    const commandsOf = (release: Record<string, string>) =>
      manualCommands({ release, stanzas: [], ownVersion: '', sudo: true });
    expect(commandsOf({ ID: 'fedora' })).toEqual(['sudo dnf install mesa-vulkan-drivers vulkan-loader']);
    expect(commandsOf({ ID: 'arch' })).toEqual(['sudo pacman -S vulkan-swrast vulkan-icd-loader']);
    expect(commandsOf({ ID: 'nixos' })).toEqual([]);
  });
});

describe.skipIf(process.platform === 'win32')('with pretended apt-get and id', () => {
  let bin = '';
  let log = '';
  let etc = '';

  /** `versions`: what apt-cache offers without and with the target release. `fails`: the apt-get command that fails. */
  function pretend(uid: number, versions: [string, string], fails = 'nothing') {
    const folder = temporaryFolder();
    bin = join(folder, 'bin');
    log = join(folder, 'log');
    etc = join(folder, 'etc');
    mkdirSync(bin);
    mkdirSync(join(etc, 'apt/sources.list.d'), { recursive: true });
    writeFileSync(join(etc, 'os-release'), 'ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n');
    writeFileSync(join(etc, 'apt/sources.list.d/debian.sources'), deb822);
    writeFileSync(join(etc, 'apt/sources.list.d/old.list.disabled'), 'deb http://off.example/debian bookworm main\n');
    writeFileSync(log, '');
    const script = (name: string, body: string) => {
      writeFileSync(join(bin, name), `#!/bin/sh\n${body}\n`);
      chmodSync(join(bin, name), 0o755);
    };
    script('id', `echo ${uid}`);
    script(
      'apt-cache',
      `case "$*" in *Default-Release*) v='${versions[1]}';; *) v='${versions[0]}';; esac; echo "  Candidate: $v"`,
    );
    script(
      'apt-get',
      `[ "$1" = --version ] && exit 0
configuration=$2; shift 2
suites=$(grep -h ^Suites: "$(dirname "$configuration")/lantrain.sources")
echo $* "[$DEBIAN_FRONTEND$LANTRAIN_TOKEN]" $suites >> ${log}
[ "$1" = ${fails} ] && echo 'E: it broke' && exit 100
exit 0`,
    );
  }

  const driver = pathToFileURL(join(checkout, 'scripts/setup/driver.mjs')).href;
  const install = () =>
    runNode(
      [
        '--input-type=module',
        '-e',
        `const { installDriver } = await import('${driver}'); await installDriver('${etc}');`,
      ],
      {
        // The token must not reach commands that packages run.
        env: { ...process.env, PATH: `${bin}:${process.env.PATH}`, TMPDIR: bin, LANTRAIN_TOKEN: 'token' },
      },
    );
  const commands = () => readFileSync(log, 'utf8').trim().split('\n');
  const ownSuites = 'Suites: bookworm bookworm-updates Suites: bookworm-security';

  test('root gets a new enough driver from the release', () => {
    pretend(0, ['25.0.7-2', '']);
    const { status, stderr } = install();
    expect(status).toBe(0);
    expect(stderr).toContain('installing mesa-vulkan-drivers and libvulkan1, 25.0.7-2,');
    expect(commands()).toEqual([
      `update [noninteractive] ${ownSuites}`,
      `install --yes --no-remove --no-install-recommends mesa-vulkan-drivers libvulkan1 [noninteractive] ${ownSuites}`,
    ]);
  });

  test('root gets the driver from backports where the release is too old, and no system file changes', () => {
    pretend(0, ['22.3.6-1+deb12u1', '25.0.7-2~bpo12+1']);
    const before = times(etc);
    expect(install().status).toBe(0);
    const suites = `${ownSuites} Suites: bookworm-backports`;
    expect(commands()).toEqual([
      `update [noninteractive] ${ownSuites}`,
      `update [noninteractive] ${suites}`,
      'install --yes --no-remove --no-install-recommends -t bookworm-backports mesa-vulkan-drivers libvulkan1 ' +
        `[noninteractive] ${suites}`,
    ]);
    expect(times(etc)).toEqual(before);
  });

  test('root is told where no suite has a new enough driver', () => {
    pretend(0, ['22.3.6', '23.1.0']);
    const { status, stderr } = install();
    expect(status).not.toBe(0);
    expect(stderr).toContain('neither bookworm nor bookworm-backports has Mesa 24 or newer (found: 23.1.0)');
  });

  test("apt's own words are shown when it fails", () => {
    pretend(0, ['25.0.7-2', ''], 'update');
    const { status, stderr } = install();
    expect(status).not.toBe(0);
    expect(stderr).toMatch(/apt-get .*update failed:\nE: it broke/);
    expect(commands()).toHaveLength(1);
  });

  test('without root nothing is run, and the commands are printed', () => {
    pretend(1000, ['22.3.6-1+deb12u1', '']);
    const { status, stderr } = install();
    expect(status).not.toBe(0);
    expect(stderr).toContain("install Mesa's software Vulkan driver:\n  echo 'deb [signed-by=");
    expect(stderr).toContain('\n  sudo apt-get install --no-install-recommends -t bookworm-backports');
    expect(readFileSync(log, 'utf8')).toBe('');
  });
});
