import { readFileSync } from 'node:fs';
import { describe, expect, test, vi } from 'vitest';
import { runCommandLine } from '../../src/cli/command-line.js';
import { type Failure, failureOf } from '../../src/cli/failure.js';
import { createProgram } from '../../src/cli/program.js';
import { checkNpm } from '../../src/cli/usage.js';
import { LantrainError } from '../../src/errors.js';
import { adapterNames } from '../../src/node/open-gpu.js';

/** The failure of a refused command line. No command runs; fails where it is not refused. */
async function refusal(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Failure> {
  const program = createProgram(() => {});
  program.hook('preAction', () => {
    throw new Error(`${args.join(' ')} was not refused`);
  });
  try {
    checkNpm(program, args, env);
    await program.parseAsync(args, { from: 'user' });
  } catch (error) {
    return failureOf(error, program, args);
  }
  throw new Error(`${args.join(' ')} was not refused`);
}

/** Words of libraries and of JavaScript, which users must not see. */
const FOREIGN =
  /Invalid input|Too (small|big)|expected \w+, received|undefined|\[object|outputHelp|\bat \S+:\d+|Error:/;

describe('a command line is refused in one line, with code 2', () => {
  test.each<[string, string, RegExp]>([
    ['an unknown command', 'trian', /no command trian; did you mean train\?/],
    ['a command like no other', 'xyzzyx', /no command xyzzyx; commands are train, coordinator/],
    ['an unknown option', 'train --bacth 4', /unknown option --bacth of train; did you mean --batch\?/],
    ['an unknown option without a like', 'report x --zzzzzzz', /unknown option --zzzzzzz of report/],
    [
      'an option of other commands',
      'coordinator --stack 2',
      /coordinator has no option --stack.*of train, bench train/,
    ],
    ['the same with =', 'demo --profile=1', /demo has no option --profile.*of train/],
    ['an option that its command could not use', 'coordinator --watch', /coordinator has no option --watch.*of train/],
    ['an option without its value', 'train --out', /--out <dir> lacks its value/],
    ['an empty value', 'train --out=', /--out is empty/],
    ['an empty prompt', 'train --prompt=', /--prompt is empty/],
    ['an empty number', 'train --lr=', /--lr is empty/],
    ['a command without its option', 'generate --run x', /generate needs --prompt <text>/],
    ['a command without its argument', 'view', /view needs <dir>/],
    ['an argument too many', 'train my.txt', /train does not know what to do with my\.txt/],
    ['two --data', 'train --data a.txt --data b.txt', /--data is given twice, with a\.txt and with b\.txt.*a folder/],
    ['two --data of a bench', 'bench cluster --data a.txt --data b.txt', /--data is given twice/],
    ['both sides of a switch', 'train --tie --no-tie', /--tie and --no-tie contradict/],
    ['--resume and --out', 'train --resume A --out B', /--resume and --out.*copy its folder/],
    ['--resume and --out of a coordinator', 'coordinator --resume A --out B', /--resume and --out/],
    ['--epochs and --steps', 'train --epochs 2 --steps 9', /--steps and --epochs.*how long/],
    ['--cert without --key', 'coordinator --cert a.pem', /--cert without --key/],
    ['--key without --cert', 'coordinator --key a.pem', /--key without --cert/],
    ['--plain with a certificate', 'coordinator --plain --cert a --key b', /--plain and --cert.*no TLS/],
    ['a preset of a plain doctor', 'doctor --preset gpt2', /--preset without --tune/],
    ['a plan of a plain doctor', 'doctor --plan-out p.json', /--plan-out without --tune/],
    ['a share of no data', 'bench cluster --val-ratio 0.2', /--val-ratio without --data/],
    ['a choice that there is not', 'train --schedule linear', /--schedule linear is none of constant, cosine/],
    ['a word for a number', 'train --lr fast', /--lr fast is not a number/],
    ['thousands by a letter', 'train --steps 5k', /--steps 5k is not a number; write 5000/],
    ['a hexadecimal number', 'train --layers 0x10', /--layers 0x10 is not a number/],
    ['NaN', 'train --lr NaN', /--lr NaN is not a number/],
    ['Infinity', 'worker --patience Infinity', /--patience Infinity is not a number/],
    ['a number beyond all', 'train --lr 1e999', /--lr 1e999 is too large a number/],
    ['a number beyond whole ones', 'train --seed 1e17', /--seed 1e17 must be at most 9007199254740991/],
    ['a negative number', 'train --seed -1', /--seed -1 must be at least 0/],
    ['a fraction of steps', 'train --steps 1.5', /--steps 1\.5 must be a whole number/],
    ['no steps', 'train --steps 0', /--steps 0 must be at least 1/],
    ['a share of one', 'train --val-ratio 1', /--val-ratio 1 must be below 1/],
    ['a learning rate of 0', 'train --lr 0', /--lr 0 must be above 0/],
    ['a time with its unit', 'train --checkpoint-every 5m', /--checkpoint-every 5m must be a number of steps such as/],
    ['an audit of more than all', 'coordinator --audit 2', /--audit 2 must be at most 1/],
    ['more workers than can connect', 'coordinator --min-workers 9999', /--min-workers 9999 must be at most 256/],
    ['more workers than a machine should start', 'demo --workers 1000', /--workers 1000 must be at most 64/],
    ['no workers', 'bench cluster --workers 1,0', /--workers 1,0 must be at least 1/],
    ['a port beyond all', 'view r --port 99999', /--port 99999 must be at most 65535/],
    ['a name of nothing', 'worker --name=', /--name is empty/],
    ['a very long name', `worker --name ${'x'.repeat(500)}`, /--name x{80}\.\.\. is longer than 64/],
  ])('a command line is refused in one line, with code 2: %s', async (_what, line, message) => {
    expectRefused(await refusal(line.split(' ')), message);
  });

  test.each<[string, string, RegExp]>([
    ['a bench without a name', 'bench', /name one of train, kernels, cluster/],
    ['a bench that there is not', 'bench trian', /no bench trian; did you mean train\?/],
    ['a bench like no other', 'bench coffee', /no bench coffee; name one of train, kernels, cluster/],
    ['a preset that there is not', 'train --preset verdit', /LT_USAGE_PRESET.*verdict/],
    ['a port to listen on beyond all', 'coordinator --listen 127.0.0.1:99999', /--listen 127\.0\.0\.1:99999/],
    ['a port to watch on beyond all', 'train --watch 127.0.0.1:99999', /--watch 127\.0\.0\.1:99999/],
  ])('a command refuses by itself, in one line, with code 2: %s', async (_what, line, message) => {
    const program = createProgram(() => {});
    const args = line.split(' ');
    const error = await program.parseAsync(args, { from: 'user' }).then(
      () => new Error(`${line} was not refused`),
      (error) => error,
    );
    expectRefused(failureOf(error, program, args), message);
  });

  test('a value of many lines, or of blanks, is refused in one line', async () => {
    for (const value of ['a\nb', ' ', '\u001b[2J']) {
      const { text } = await refusal(['train', '--lr', value]);
      expect(text).toMatch(/^error LT_USAGE_OPTION: --lr .*is not a number.*\n$/);
      expect(text).not.toContain('\u001b');
    }
  });
});

function expectRefused({ text, code }: Failure, message: RegExp): void {
  expect(text).toMatch(message);
  expect(text).toMatch(/^error LT_USAGE_\w+: [^\n]*\n$/);
  expect(text).not.toMatch(FOREIGN);
  expect(code).toBe(2);
}

test('an option that is given twice has its last value, and that is said', () => {
  const notes: string[] = [];
  const program = createProgram(
    () => {},
    (line) => notes.push(line),
  );
  const train = program.commands.find((command) => command.name() === 'train');
  train?.action(() => {});
  program.parse(['train', '--batch', '4', '--seed', '1', '--seed', '1', '--json', '--json', '--batch', '8'], {
    from: 'user',
  });
  expect(train?.getOptionValue('batch')).toBe(8);
  expect(notes).toEqual(['note: --batch is given twice, with 4 and with 8: the last one holds']);
});

describe('numbers are read as people write them', () => {
  const lr = (text: string) => {
    const program = createProgram(() => {});
    const train = program.commands.find((command) => command.name() === 'train');
    train?.action(() => {});
    program.parse(['train', '--lr', text], { from: 'user' });
    return train?.getOptionValue('lr');
  };

  test.each([
    ['1e-4', 1e-4],
    ['.5', 0.5],
    ['+2', 2],
    [' 5 ', 5],
    ['1E3', 1000],
  ])('a number is read as people write it: %s', (text, value) => expect(lr(text)).toBe(value));
});

describe('options that npm took', () => {
  const npm = { npm_lifecycle_event: 'lantrain', npm_package_name: 'lantrain', npm_config_audit: '' };

  test('options that npm took are named, with where they belong', async () => {
    const taken = { ...npm, npm_config_preset: 'true', npm_config_micro_batch: '4', npm_config_tie: '' };
    const { text, code } = await refusal(['train', 'tiny'], taken);
    expect(text).toMatch(
      /npm took --preset, --no-tie, --micro-batch for itself; put -- before the options: .* train \.\.\./,
    );
    expect(code).toBe(2);
  });

  test("options that npm took are not looked for where given as well, where npm has them itself, or in others' scripts", () => {
    const program = createProgram(() => {});
    const fine = (args: string[], env: NodeJS.ProcessEnv) => expect(() => checkNpm(program, args, env)).not.toThrow();
    fine(['train', '--seed', '3'], { ...npm, npm_config_seed: '3' });
    fine(['doctor'], { ...npm, npm_config_json: 'true', npm_config_cert: 'x', npm_config_key: 'x' });
    fine(['train'], { ...npm, npm_package_name: 'app', npm_config_seed: '3' });
    fine(['train'], { npm_config_seed: '3' });
  });
});

describe('help', () => {
  test('help is what a command line without a command gets, never an error', async () => {
    const printed: string[] = [];
    const keep = (text: string | Uint8Array) => printed.push(String(text)) > 0;
    const spies = [process.stdout, process.stderr].map((out) => vi.spyOn(out, 'write').mockImplementation(keep));
    const code = await runCommandLine([]);
    for (const spy of spies) spy.mockRestore();
    expect(code).toBe(0);
    expect(printed.join('')).toMatch(/^Usage: [\s\S]*Commands:[\s\S]* train [\s\S]*For a start:[\s\S]* demo\n/);
    expect(printed.join('')).not.toContain('outputHelp');
  });

  test('help sorts the options of a run under headings', () => {
    const program = createProgram(() => {});
    const train = program.commands.find((command) => command.name() === 'train');
    const help = train?.helpInformation() ?? '';
    for (const heading of ['Run:', 'Data:', 'Computing:', 'Reports:']) expect(help).toContain(`\n${heading}\n`);
  });
});

describe('a failure is told without the words of the system and of drivers', () => {
  const told = (error: unknown) => failureOf(error).text;

  test('a failure of a file that nobody asked for is told in our own words', () => {
    let error: unknown;
    try {
      readFileSync('/nowhere/at all');
    } catch (thrown) {
      error = thrown;
    }
    expect(failureOf(error)).toEqual({
      text: 'error LT_SYSTEM: the system refuses open of /nowhere/at all: no such file or directory (ENOENT)\n',
      code: 1,
    });
  });

  test("a failure of a GPU is told in our own words, and LANTRAIN_DEBUG shows the GPU's", () => {
    const cause = new Error('validation:\nWrite range (bufferOffset: 1024) does not fit in [Buffer].');
    const words = 'validation: Write range (bufferOffset: 1024) does not fit in [Buffer].';
    const error = new LantrainError('LT_GPU_ERROR', `WebGPU refused an operation: ${words}; step 7 stands`, { cause });
    expect(told(error)).toMatch(/^error LT_GPU_ERROR: WebGPU refused an operation, which none should: .*driver/);
    expect(told(error)).toMatch(/; step 7 stands\n$/);
    expect(told(error)).not.toMatch(/validation|bufferOffset/);
    vi.stubEnv('LANTRAIN_DEBUG', '1');
    expect(told(error)).toMatch(/because of: Error: validation:\nWrite range/);
    vi.unstubAllEnvs();
    const shader = new LantrainError('LT_GPU_SHADER', 'matmul.wgsl does not compile: line 3:4 unresolved value');
    expect(told(shader)).toMatch(
      /^error LT_GPU_SHADER: the kernel matmul\.wgsl does not compile on this adapter: update/,
    );
    expect(told(shader)).not.toMatch(/unresolved/);
  });

  test('the names of adapters in a failure are kept', () => {
    const said =
      "no suitable backends found\nAvailable adapters:\n * backend: 'vulkan', name: 'A (x, 1)'\n * name: 'B'";
    expect(adapterNames(new Error(said))).toEqual(['A (x, 1)', 'B']);
    expect(adapterNames(undefined)).toEqual([]);
  });

  test('a defect of ours shows where it is', () => {
    expect(told(new TypeError('x is not a function'))).toMatch(
      /^unexpected error: TypeError: x is not a function\n +at /,
    );
  });
});
