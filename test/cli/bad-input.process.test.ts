import { cpSync, existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sampled } from '../thorough.js';
import { lantrain, SMALL, workFolder } from './run.js';

const folder = workFolder();
afterAll(() => folder.remove());

const at = (name: string) => join(folder.path, name);

beforeAll(async () => {
  writeFileSync(at('empty.txt'), '');
  writeFileSync(at('short.txt'), 'too short');
  writeFileSync(
    at('ids.bin'),
    Buffer.from(Uint16Array.from({ length: 400 }, (_, i) => (i === 77 ? 300 : i % 200)).buffer),
  );
  writeFileSync(at('odd.bin'), Buffer.alloc(401));
  writeFileSync(at('broken.json'), '{');
  cpSync(resolve('test/golden/tied'), at('cut'), { recursive: true });
  truncateSync(at('cut/model.safetensors'), 5000);
  const { code } = await lantrain(['train', ...SMALL, '--steps', '2', '--out', 'there'], { cwd: folder.path });
  expect(code).toBe(0);
  cpSync(at('there'), at('old'), { recursive: true });
  const config = JSON.parse(readFileSync(at('old/config.json'), 'utf8'));
  const plan = { ...config.plan, version: 1, matmul: 'tile64' };
  writeFileSync(at('old/config.json'), JSON.stringify({ ...config, plan }));
  const planned = (matmul: string) => JSON.stringify({ ...config.plan, matmul: [['*', matmul]] });
  writeFileSync(at('unknown.json'), planned('tile7x7'));
  writeFileSync(
    at('wide.json'),
    planned(config.plan.matmul[0][1].startsWith('subgroup4') ? 'subgroup16' : 'subgroup4'),
  );
});

/** what, arguments, exit code, what the one line must say. */
const cases: [string, string[], 1 | 2, RegExp][] = [
  ['a data file that is not there', ['--data', 'nowhere.txt'], 1, /LT_DATA_MISSING.*nowhere\.txt/],
  ['an empty data file', ['--data', 'empty.txt'], 1, /LT_DATA_EMPTY.*empty\.txt/],
  ['a text shorter than one window', ['--data', 'short.txt'], 1, /LT_DATA_SHORT.*--context/],
  ['a validation part shorter than one window', ['--val-ratio', '0.001'], 1, /LT_DATA_SHORT.*validation/],
  ['a token id beyond the vocabulary', ['--data', 'ids.bin'], 1, /LT_DATA_TOKEN.*300.*256/],
  ['a token file of odd length', ['--data', 'odd.bin'], 1, /LT_DATA_CORRUPT.*odd\.bin/],
  ['a width that heads do not divide', ['--width', '33'], 2, /LT_USAGE_MODEL.*33.*2 heads/],
  ['a batch that the micro-batch does not divide', ['--micro-batch', '3'], 2, /LT_USAGE_BATCH.*4.*3/],
  ['a stack that the step does not divide into', ['--stack', '3'], 2, /LT_USAGE_BATCH.*--stack 3.*: 1, 2/],
  ['an unknown preset, with the nearest name', ['--preset', 'verdit'], 2, /LT_USAGE_PRESET.*verdict/],
  ['an unknown option, with the nearest name', ['--bacth', '4'], 2, /unknown option.*--batch/],
  ['a number that is none', ['--lr', 'fast'], 2, /--lr.*fast.*number/],
  ['a number out of range', ['--dropout', '1.5'], 2, /--dropout.*1\.5/],
  ['an unknown choice', ['--schedule', 'linear'], 2, /--schedule.*constant, cosine/],
  ['a run directory that exists', ['--out', 'there'], 1, /LT_RUN_EXISTS.*there.*--resume/],
  ['a run that is not there', ['--resume', 'nowhere'], 1, /LT_RUN_MISSING.*nowhere/],
  ['a run that is done', ['--resume', 'there'], 1, /LT_RUN_MISMATCH.*done/],
  ['a run of an older plan', ['--resume', 'old', '--steps', '9'], 1, /LT_RUN_MISMATCH.*old.*version 1.*--init/],
  [
    'a run resumed with another model',
    ['--resume', 'there', '--steps', '9', '--width', '64'],
    1,
    /LT_RUN_MISMATCH.*width/,
  ],
  [
    'a run resumed with other data',
    ['--resume', 'there', '--steps', '9', '--data', 'other.txt'],
    1,
    /LT_RUN_MISMATCH.*data/,
  ],
  ['a truncated safetensors file', ['--init', 'cut'], 1, /LT_CHECKPOINT_CORRUPT.*model\.safetensors/],
  ['a plan that is no JSON', ['--plan', 'broken.json'], 2, /LT_USAGE_OPTION.*broken\.json.*not JSON/],
  ['a plan that is not there', ['--plan', 'nowhere.json'], 2, /LT_USAGE_OPTION.*nowhere\.json.*no such file/],
  ['a plan of a kernel that is none', ['--plan', 'unknown.json'], 2, /LT_USAGE_OPTION.*unknown\.json.*tile7x7/],
  ['a plan that this adapter cannot run', ['--plan', 'wide.json'], 1, /LT_RUN_MISMATCH.*subgroups of.*--plan auto/],
  ['a plan and --tune', ['--plan', 'wide.json', '--tune'], 2, /LT_USAGE_OPTION.*--tune.*--plan/],
  ['--tune in mixed precision', ['--precision', 'f16', '--tune'], 2, /LT_USAGE_OPTION.*--tune.*--precision f16/],
  [
    'a model too large for the adapter',
    ['--layers', '1000', '--width', '2048', '--heads', '16'],
    1,
    /LT_GPU_MEMORY.*needs.*GB.*there is.*fits/,
  ],
];

const WITHOUT_DATA = SMALL.filter((word) => word !== '--data' && word !== 'text.txt');

describe('bad input gets one line, the right exit code, and writes nothing', () => {
  test.each(sampled(cases, 12))(
    'train refuses %s in one line, and writes nothing',
    async (_what, args, code, message) => {
      writeFileSync(at('other.txt'), 'another text, long enough to be trained on. '.repeat(60));
      const resuming = args.includes('--resume');
      const base =
        resuming || args.includes('--init')
          ? ['--sample-tokens', '0']
          : [...(args.includes('--data') ? WITHOUT_DATA : SMALL), '--steps', '2'];
      const out = resuming || args.includes('--out') ? [] : ['--out', 'new'];
      const before = readdirSync(at('there/checkpoints'));
      const run = await lantrain(['train', ...base, ...out, ...args], { cwd: folder.path });
      const lines = run.stderr.trim().split('\n');
      expect(lines.at(-1), run.stderr).toMatch(message);
      expect(run.code).toBe(code);
      expect(lines.filter((line) => /error/i.test(line))).toHaveLength(1);
      expect(existsSync(at('new'))).toBe(false);
      expect(readdirSync(at('there/checkpoints'))).toEqual(before);
    },
  );

  test.each([
    [
      'a port that is taken',
      (port: number) => ['--listen', `127.0.0.1:${port}`],
      /LT_CLUSTER_LISTEN.*EADDRINUSE.*--listen/,
    ],
    ['an address of another machine', () => ['--listen', '192.0.2.1:0'], /LT_CLUSTER_LISTEN.*192\.0\.2\.1.*--listen/],
    ['a certificate that is none', () => ['--cert', 'broken.json', '--key', 'broken.json'], /LT_CLUSTER_CERTIFICATE/],
  ])('a coordinator refuses %s, and writes nothing', async (_what, args, message) => {
    const server = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const listen = args((server.address() as AddressInfo).port);
    const run = await lantrain(['coordinator', ...SMALL, '--steps', '2', '--out', 'new', ...listen], {
      cwd: folder.path,
    });
    server.close();
    expect(run.stderr.trim().split('\n').at(-1), run.stderr).toMatch(message);
    expect(run.code).toBe(1);
    expect(existsSync(at('new'))).toBe(false);
  });

  test('generate refuses a prompt that is empty', async () => {
    const run = await lantrain(['generate', '--run', 'there', '--prompt', ''], { cwd: folder.path });
    expect(run.stderr.trim()).toMatch(/^error LT_USAGE_OPTION.*--prompt/);
    expect(run.code).toBe(2);
  });
});
