import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { failureOf } from '../../src/cli/failure.js';
import { createProgram } from '../../src/cli/program.js';
import { trainRequestOf } from '../../src/cli/train-options.js';
import type { TrainRequest } from '../../src/run/request.js';
import { BASE_OPTIONS } from '../../src/train/options.js';
import { slowTest } from '../slow.js';
import { type Finished, lantrain, SMALL, workFolder } from './run.js';

const folder = workFolder();
const at = (name: string) => join(folder.path, name);
afterAll(() => folder.remove());

/** Writes a file of options and returns its path. */
function file(content: unknown, name = 'options.json'): string {
  writeFileSync(at(name), typeof content === 'string' ? content : JSON.stringify(content));
  return at(name);
}

/** The request of a command line, without running it. */
async function requestOf(args: readonly string[], name = 'train'): Promise<TrainRequest> {
  const program = createProgram(() => {});
  const command = program.commands.find((one) => one.name() === name);
  if (command === undefined) throw new Error(`there is no command ${name}`);
  let request: TrainRequest | undefined;
  command.action(() => {
    request = trainRequestOf(command);
  });
  await program.parseAsync([name, ...args], { from: 'user' });
  if (request === undefined) throw new Error('the command was not run');
  return request;
}

async function refusalOf(args: readonly string[], name = 'train'): Promise<{ text: string; code: number }> {
  const error = await requestOf(args, name).then(
    () => new Error('it was not refused'),
    (error) => error,
  );
  return failureOf(
    error,
    createProgram(() => {}),
    [name, ...args],
  );
}

const PLAN = { version: 2 };
/** The part of a run's configuration that these tests need. */
const RUN = {
  version: '0',
  model: { layers: 1 },
  options: { ...BASE_OPTIONS, lr: 0.5, steps: 7 },
  plan: PLAN,
  init: 'weights',
  adapter: 'the driver of an adapter',
};

describe('a file of options', () => {
  test('a file of options gives options by their names, of a run and of training alike', async () => {
    const path = file({ $schema: 'x', preset: 'gpt2', microBatch: 2, tie: false, out: 'here', lr: 0.25, json: true });
    const wanted = { microBatch: 2, tie: false, lr: 0.25, preset: 'gpt2', out: 'here', json: true };
    expect(await requestOf(['--config', path])).toEqual(wanted);
  });

  test('a file of options yields to flags, and to those that contradict it', async () => {
    const path = file({ lr: 0.25, batch: 4, steps: 100, out: 'here', tie: true });
    const args = ['--lr', '0.5', '--epochs', '2', '--resume', 'run', '--no-tie'];
    const wanted = { lr: 0.5, batch: 4, epochs: 2, tie: false, resume: 'run' };
    expect(await requestOf(['--config', path, ...args])).toEqual(wanted);
  });

  test("a file of options may be a run's own configuration, with its plan and its first weights", async () => {
    const path = file(RUN, 'config.json');
    for (const name of ['train', 'coordinator', 'demo']) {
      const wanted = { ...RUN.options, seed: 9, init: 'weights', plan: path };
      expect(await requestOf(['--config', path, '--seed', '9'], name)).toEqual(wanted);
    }
    const resumed = await requestOf(['--config', path, '--resume', 'run', '--tune']);
    expect([resumed.init, resumed.plan, resumed.tune]).toEqual([undefined, undefined, true]);
    expect((await requestOf(['--config', path, '--no-tune', '--plan', 'auto'])).plan).toBe('auto');
    expect((await requestOf(['--config', path, '--no-tune'])).plan).toBe(path);
  });

  test.each<[string, unknown, RegExp]>([
    ['an unknown name', { bacth: 4 }, /"bacth" is no option of train; did you mean batch\?/],
    ['a flag for a name', { 'micro-batch': 4 }, /"micro-batch" is no option of train; did you mean microBatch\?/],
    ['a name like no other', { somethingElse: 4 }, /"somethingElse" is no option of train(?!;)/],
    ["an option of another command's", { listen: ':7070' }, /"listen" is no option of train/],
    ['a name of every object', { toString: 4 }, /"toString" is no option of train/],
    ['another file', { config: 'x.json' }, /"config" is no option of train/],
    ['a text for a number', { lr: 'fast' }, /lr must be a number, not "fast"/],
    ['a number beyond its bound', { layers: 1e9 }, /layers must be at most 1024, not 1000000000/],
    ['a fraction', { batch: 1.5 }, /batch must be a whole number, not 1\.5/],
    ['a choice that there is not', { schedule: 'linear' }, /schedule must be constant or cosine, not "linear"/],
    ['a preset that there is not', { preset: 'verdit' }, /LT_USAGE_PRESET.*preset: there is no preset verdit.*verdict/],
    ['an address that is none', { watch: 'here' }, /watch: --watch here is not HOST:PORT/],
    ['a number for a switch', { tie: 1 }, /tie must be true or false, not 1/],
    ['nothing', { out: null }, /out must be a text, not null/],
    ['an empty text', { prompt: '' }, /prompt is empty/],
    ['two that contradict', { resume: 'a', out: 'b' }, /--resume and --out do not go together/],
    ["a wrong option of a run's", { ...RUN, options: { ...RUN.options, lr: -1 } }, /lr must be above 0, not -1/],
    ['a list', [1], /must be an object of options/],
    ['no JSON', '{"lr": 1', /this is not JSON/],
    ['a very long value', { lr: 'x'.repeat(1e5) }, /lr must be a number, not "x{79}$/],
  ])('a file of options with %s is refused in one line', async (_what, content, message) => {
    const path = file(content);
    const { text, code } = await refusalOf(['--config', path]);
    expect(text).toMatch(/^error LT_USAGE_\w+: [^\n]*\n$/);
    expect(text.trimEnd()).toMatch(message);
    if (!message.source.includes('do not go')) expect(text).toContain(`--config ${path}`);
    expect(code).toBe(2);
  });

  test('a file of options that is missing, a folder or endless is refused', async () => {
    mkdirSync(at('folder'));
    for (const [path, why] of [
      [at('none.json'), /no such file/],
      [at('folder'), /directory/],
      ['/dev/zero', /it is a device/],
    ] as const) {
      const { text, code } = await refusalOf(['--config', path]);
      expect(text).toMatch(why);
      expect(text).toContain(`--config ${path}`);
      expect(code).toBe(2);
    }
  });

  test("a configuration of a run leaves nothing to a preset's flag", async () => {
    const { text, code } = await refusalOf(['--config', file(RUN), '--preset', 'gpt2']);
    expect(text).toMatch(/--preset says nothing beside --config/);
    expect(code).toBe(2);
  });
});

describe("a run by another run's configuration", () => {
  const run = (...args: string[]) => lantrain(['train', ...args], { cwd: folder.path });
  const digestOf = ({ stderr, stdout }: Finished) => /digest +([0-9a-f]{64})/.exec(stdout + stderr)?.[1];
  let first: Finished;

  beforeAll(async () => {
    writeFileSync(at('text.txt'), 'the whale and the sea. '.repeat(200));
    first = await run('--data', 'text.txt', ...SMALL, '--steps', '4', '--seed', '3', '--out', 'first');
    expect(first.code, first.stderr).toBe(0);
  });

  test("a run by another run's configuration has its digest", async () => {
    const again = await run('--config', 'first/config.json', '--out', 'again');
    expect(again.code, again.stderr).toBe(0);
    expect(digestOf(first)).toBeDefined();
    expect(digestOf(again)).toBe(digestOf(first));
    expect(JSON.parse(readFileSync(at('again/config.json'), 'utf8'))).toEqual(
      JSON.parse(readFileSync(at('first/config.json'), 'utf8')),
    );
  });

  slowTest("a run by another run's configuration goes on with it, and as nothing else", async () => {
    const longer = await run('--config', 'first/config.json', '--resume', 'first', '--steps', '6');
    expect(longer.code, longer.stderr).toBe(0);
    const config = JSON.parse(readFileSync(at('first/config.json'), 'utf8'));
    const other = file({ ...config, options: { ...config.options, lr: 0.5 } }, 'other.json');
    const refused = await run('--config', other, '--resume', 'first', '--steps', '8');
    expect(refused.stderr).toMatch(/LT_RUN_MISMATCH.*options\.lr is .* in the run, 0\.5 now/);
    expect(refused.code).toBe(1);
  });
});
