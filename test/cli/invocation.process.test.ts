import { execFileSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import {
  pasteable,
  pasteableElsewhere,
  type Started,
  shellOf,
  shellQuote,
  withVariable,
} from '../../src/node/invocation.js';

const NODE = '/usr/bin/node';
const PLAIN: Started = {
  argv: [NODE, '/home/me/lantrain/dist/src/cli/main.js', 'train'],
  execArgv: [],
  env: { PATH: '/usr/local/bin:/usr/bin' },
  cwd: '/home/me/lantrain',
  platform: 'linux',
  root: '/home/me/lantrain',
  isLibrary: false,
  which: (name) => (name === 'node' ? NODE : undefined),
};

/** Environment variables of npm 11 for a script of the package in `root`, called in `from`. */
const npm = (root: string, from: string, more: Record<string, string> = {}) => ({
  PATH: '/usr/bin',
  npm_command: 'run',
  npm_lifecycle_event: 'lantrain',
  npm_package_name: 'lantrain',
  npm_package_json: `${root}/package.json`,
  npm_config_local_prefix: root,
  INIT_CWD: from,
  ...more,
});

const bin = (path: string) => [NODE, path, 'train'];

describe('a printed command', () => {
  test.each<[string, Partial<Started>, string]>([
    ['node and the file', {}, 'node dist/src/cli/main.js x'],
    ['from elsewhere', { cwd: '/tmp' }, 'node /home/me/lantrain/dist/src/cli/main.js x'],
    ['from a folder below', { cwd: '/home/me/lantrain/runs' }, 'node /home/me/lantrain/dist/src/cli/main.js x'],
    ['from beside it', { cwd: '/home/me/lantrain/dist/src/cli' }, 'node ./main.js x'],
    ['in a folder that is gone', { cwd: undefined }, 'node /home/me/lantrain/dist/src/cli/main.js x'],
    [
      "with Node's own options",
      { execArgv: ['--max-old-space-size=8192'] },
      'node --max-old-space-size=8192 dist/src/cli/main.js x',
    ],
    [
      'by a Node that is not the one on the PATH',
      { argv: ['/opt/node 22/bin/node', PLAIN.argv[1]] },
      "'/opt/node 22/bin/node' dist/src/cli/main.js x",
    ],
    [
      'by a file whose folder has a blank',
      { argv: [NODE, '/home/me/my $work/main.js'], cwd: '/home/me' },
      "node 'my $work/main.js' x",
    ],
    ['npm run', { env: npm('/home/me/lantrain', '/home/me/lantrain') }, 'npm run -s lantrain -- x'],
    [
      'npm run in a folder below',
      { env: npm('/home/me/lantrain', '/home/me/lantrain/docs') },
      'npm run -s lantrain -- x',
    ],
    [
      'npm --prefix run',
      { env: npm('/home/me/lantrain', '/home/me') },
      'npm --prefix /home/me/lantrain run -s lantrain -- x',
    ],
    [
      'npm --prefix run from a folder whose name begins alike',
      { env: npm('/home/me/lantrain', '/home/me/lantrain-2') },
      'npm --prefix /home/me/lantrain run -s lantrain -- x',
    ],
    [
      'npm start',
      { env: npm('/home/me/lantrain', '/home/me/lantrain', { npm_command: 'start', npm_lifecycle_event: 'start' }) },
      'npm run -s lantrain -- x',
    ],
    [
      'what a script of npm started in another folder',
      { env: npm('/home/me/lantrain', '/home/me/lantrain', { npm_lifecycle_event: 'test' }), cwd: '/tmp/work' },
      'node /home/me/lantrain/dist/src/cli/main.js x',
    ],
    [
      'npx in the checkout',
      {
        argv: bin('/home/me/.npm/_npx/6422/node_modules/.bin/lantrain'),
        env: npm('/home/me/lantrain', '/home/me/lantrain', { npm_command: 'exec', npm_lifecycle_event: 'npx' }),
      },
      'npx lantrain x',
    ],
    [
      'npx in a project that depends on it',
      {
        argv: bin('/srv/app/node_modules/.bin/lantrain'),
        cwd: '/srv/app',
        env: { npm_command: 'exec', npm_lifecycle_event: 'npx', npm_package_name: 'app' },
      },
      'npx lantrain x',
    ],
    [
      'npx of a package from elsewhere, which its name alone would not find',
      {
        argv: bin('/home/me/.npm/_npx/6422/node_modules/.bin/lantrain'),
        cwd: '/tmp',
        env: { npm_command: 'exec', npm_lifecycle_event: 'npx' },
      },
      '/home/me/.npm/_npx/6422/node_modules/.bin/lantrain x',
    ],
    [
      'a script of another package',
      {
        argv: bin('/srv/app/node_modules/.bin/lantrain'),
        cwd: '/srv/app',
        env: {
          PATH: '/srv/app/node_modules/.bin:/usr/bin',
          npm_command: 'run',
          npm_lifecycle_event: 'go',
          npm_package_name: 'app',
          npm_package_json: '/srv/app/package.json',
        },
      },
      'npx lantrain x',
    ],
    [
      'a program that npx started, which is not lantrain',
      { env: { npm_command: 'exec' } },
      'node dist/src/cli/main.js x',
    ],
    ['its name on the PATH', { argv: bin('/usr/local/bin/lantrain') }, 'lantrain x'],
    ['its name beside the PATH', { argv: bin('/opt/bin/lantrain') }, '/opt/bin/lantrain x'],
    ['its link in the folder at hand', { argv: bin('/home/me/lantrain/lantrain') }, './lantrain x'],
    [
      'its name, installed for all users',
      { argv: bin('/usr/local/bin/lantrain'), root: '/usr/local/lib/node_modules/lantrain', cwd: '/srv' },
      'lantrain x',
    ],
    [
      'a project that has it installed, on Windows, where npm starts the file itself',
      {
        platform: 'win32',
        argv: bin('/srv/app/node_modules/lantrain/dist/src/cli/main.js'),
        root: '/srv/app/node_modules/lantrain',
        cwd: '/srv/app',
        env: { PATH: '/usr/bin', npm_command: 'exec', npm_lifecycle_event: 'npx', npm_package_name: 'app' },
      },
      'npx lantrain x',
    ],
    [
      'its name on Windows, installed for all users',
      {
        platform: 'win32',
        argv: bin('/users/me/npm/node_modules/lantrain/dist/src/cli/main.js'),
        root: '/users/me/npm/node_modules/lantrain',
        env: { PATH: '/usr/bin:/users/me/npm' },
      },
      'lantrain x',
    ],
    [
      'node and the file of an installed package, on Windows',
      {
        platform: 'win32',
        argv: bin('/srv/app/node_modules/lantrain/dist/src/cli/main.js'),
        root: '/srv/app/node_modules/lantrain',
        cwd: '/srv/app',
      },
      'node node_modules/lantrain/dist/src/cli/main.js x',
    ],
    [
      'a program of somebody else, which has it as a library',
      { isLibrary: true, argv: [NODE, '/srv/app/train.js'], cwd: '/srv/app', root: '/srv/app/node_modules/lantrain' },
      'npx lantrain x',
    ],
    [
      'a program of somebody else, which imports a checkout',
      { isLibrary: true, argv: [NODE, '/srv/app/train.js'], cwd: '/srv/app' },
      'npm --prefix /home/me/lantrain run -s lantrain -- x',
    ],
    [
      'a link of a project, called by its path',
      { argv: bin('/srv/app/node_modules/.bin/lantrain'), cwd: '/srv/app' },
      'node_modules/.bin/lantrain x',
    ],
  ])('a printed command starts lantrain as it was started: %s', (_what, started, command) => {
    expect(pasteable(['x'], { ...PLAIN, ...started })).toBe(command);
  });

  test('a printed command for another machine names nothing of this one', () => {
    const elsewhere = (started: Partial<Started>) => pasteableElsewhere(['worker', 'URL'], { ...PLAIN, ...started });
    expect(elsewhere({ cwd: '/tmp' })).toBe('npm run -s lantrain -- worker URL');
    expect(elsewhere({ env: npm('/home/me/lantrain', '/tmp') })).toBe('npm run -s lantrain -- worker URL');
    expect(elsewhere({ argv: bin('/usr/local/bin/lantrain') })).toBe('lantrain worker URL');
    const installed = { root: '/usr/local/lib/node_modules/lantrain' };
    expect(elsewhere({ ...installed, argv: bin('/usr/local/bin/lantrain') })).toBe('npx lantrain worker URL');
    expect(elsewhere({ ...installed, isLibrary: true })).toBe('npx lantrain worker URL');
    expect(elsewhere({ isLibrary: true })).toBe('npm run -s lantrain -- worker URL');
  });

  test('a printed command has a variable before it as its shell sets one, and nothing of it is an argument', () => {
    const set = (env: Record<string, string>, platform: NodeJS.Platform) =>
      withVariable('LANTRAIN_TOKEN', 'Abc_-9', 'npm run -s lantrain -- worker URL', { env, platform });
    expect(set({}, 'linux')).toBe('LANTRAIN_TOKEN=Abc_-9 npm run -s lantrain -- worker URL');
    expect(set({}, 'win32')).toBe('set "LANTRAIN_TOKEN=Abc_-9"&& npm run -s lantrain -- worker URL');
    const powershell = { PSModulePath: 'C:\\u;C:\\a;C:\\b' };
    expect(set(powershell, 'win32')).toBe("$env:LANTRAIN_TOKEN='Abc_-9'; npm run -s lantrain -- worker URL");
    const got = execFileSync('sh', ['-c', withVariable('LANTRAIN_TOKEN', '-x', 'printenv LANTRAIN_TOKEN')]);
    expect(String(got)).toBe('-x\n');
  });

  test('a printed command begins with & in PowerShell where the program is quoted', () => {
    const env = { PSModulePath: 'C:\\Users\\me\\Documents;C:\\Program Files;C:\\Windows' };
    const argv = ['C:\\Program Files\\node.exe', PLAIN.argv[1]];
    const started: Started = { ...PLAIN, argv, env, platform: 'win32' };
    expect(pasteable(['x'], started)).toMatch(/^& 'C:\\Program Files\\node\.exe' dist/);
    expect(pasteable(['x'], { ...started, env: {} })).toMatch(/^"C:\\Program Files\\node\.exe" dist/);
  });
});

describe('a word', () => {
  const AWKWARD = [
    'plain-word_1.txt',
    '',
    ' ',
    'two words',
    "it's",
    "'",
    '"quoted"',
    '$HOME',
    '`id`',
    '$(id)',
    'a\\b',
    'tail\\',
    'a*b?',
    '[x]',
    '{a,b}',
    '~',
    '#x',
    '=ls',
    '!!',
    'a;b&c|d<e>f',
    'line\nbreak',
    'ünïcode…',
    '100%',
    '-rf',
    'http://h/#a',
  ];

  test('a quoted word comes through a POSIX shell as it was', () => {
    const words = AWKWARD.map((word) => shellQuote(word, 'posix')).join(' ');
    const got = execFileSync('sh', ['-c', `printf '%s\\0' ${words}`], { encoding: 'utf8' });
    expect(got.split('\0').slice(0, -1)).toEqual(AWKWARD);
  });

  test('a word has no quotes where none are needed, least of all a join URL', () => {
    for (const word of ['runs/tiny-1', '--steps', 'wss://192.168.1.20:7070/#Abc_-9.Xyz'])
      for (const shell of ['posix', 'cmd', 'powershell'] as const) expect(shellQuote(word, shell)).toBe(word);
  });

  test.each([
    ['two words', '"two words"', "'two words'"],
    ['C:\\my runs\\', '"C:\\my runs\\\\"', "'C:\\my runs\\'"],
    ['C:\\runs\\a', 'C:\\runs\\a', 'C:\\runs\\a'],
    ['say "hi"', '"say ""hi"""', '\'say "hi"\''],
    ['a\\"b', '"a\\\\""b"', "'a\\\"b'"],
    ['100%', '"100%"', "'100%'"],
    ['%PATH%', '""^%"PATH"^%""', "'%PATH%'"],
    ['$env:x', '"$env:x"', "'$env:x'"],
    ["it's", '"it\'s"', "'it''s'"],
    ['a&b', '"a&b"', "'a&b'"],
  ])('a word is quoted for the shells of Windows: %s', (word, cmd, powershell) => {
    expect(shellQuote(word, 'cmd')).toBe(cmd);
    expect(shellQuote(word, 'powershell')).toBe(powershell);
  });

  test('a word is quoted for the shell at hand', () => {
    const win32 = 'win32' as const;
    expect(shellOf({ env: {}, platform: 'darwin' })).toBe('posix');
    expect(shellOf({ env: { MSYSTEM: 'MINGW64' }, platform: win32 })).toBe('posix');
    expect(shellOf({ env: { PSModulePath: 'C:\\a;C:\\b' }, platform: win32 })).toBe('cmd');
    expect(shellOf({ env: { PSModulePath: 'C:\\u;C:\\a;C:\\b' }, platform: win32 })).toBe('powershell');
  });
});
