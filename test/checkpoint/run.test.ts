import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { openCheckpoint, restoreCheckpoint } from '../../src/checkpoint/checkpoint.js';
import { digestState, type StatePart } from '../../src/checkpoint/digest.js';
import { openModel } from '../../src/checkpoint/huggingface.js';
import { checkIdentity, compareIdentity } from '../../src/checkpoint/identity.js';
import { RunDirectory } from '../../src/checkpoint/run.js';
import { openSafetensors } from '../../src/checkpoint/safetensors.js';
import { LantrainError } from '../../src/errors.js';
import { parameters } from '../../src/model/parameters.js';
import { failure, scratch, state, TINY } from './helpers.js';

const CONFIG = { version: '0.1.0', model: TINY, seed: 7, data: { hash: 'abc', ratio: 0.1 } };

const newRun = () => RunDirectory.create(join(scratch(), 'runs', 'a'), CONFIG);
const next = (step: number) => ({
  model: TINY,
  step,
  version: '0.1.0',
  tokensSeen: 10 * step,
  trainer: { epoch: 1, order: [3, 1, 2] },
  read: state(TINY, step),
});
const lowRun = () =>
  RunDirectory.create(join(scratch(), 'runs', 'low'), { ...CONFIG, options: { wire: 'low', lr: 1 } });
const lowNext = (step: number) => ({ ...next(step), wire: 'low' as const });

/** Replaces a text in a file of a checkpoint. */
function rewrite(path: string, name: string, from: string, to: string): void {
  const text = readFileSync(join(path, name), 'latin1');
  expect(text).toContain(from);
  writeFileSync(join(path, name), text.replace(from, to), 'latin1');
}

/** Changes one bit of the first master weight. */
function flipMaster(path: string): void {
  const file = join(path, 'optimizer.safetensors');
  const bytes = readFileSync(file);
  bytes[8 + Number(bytes.readBigUInt64LE(0))] ^= 1;
  writeFileSync(file, bytes);
}
const steps = (run: RunDirectory) => run.list().map(({ step }) => step);

describe('a run directory', () => {
  test('a run directory is made once; its configuration comes back with everything the trainer put in', async () => {
    const run = await newRun();
    const again = await RunDirectory.open(run.path, 'read');
    expect(again.config).toEqual(CONFIG);
    const message = await failure('LT_RUN_EXISTS', () => RunDirectory.create(run.path, CONFIG));
    expect(message).toContain('--out');
    expect(message).toContain(`--resume ${run.path}`);
  });

  test('a run directory takes an empty directory, and one where making a run was cut off', async () => {
    const path = scratch();
    writeFileSync(join(path, 'config.json.partial'), '{');
    (await RunDirectory.create(path, CONFIG)).close();
    expect(readdirSync(path).sort()).toEqual(['checkpoints', 'config.json']);
  });

  test('a run directory is refused where a file, nothing or something else is', async () => {
    const dir = scratch();
    const file = join(dir, 'file');
    writeFileSync(file, '');
    await failure('LT_RUN_EXISTS', () => RunDirectory.create(file, CONFIG));
    await failure('LT_RUN_WRITE', () => RunDirectory.create(join(file, 'run'), CONFIG));
    expect(await failure('LT_RUN_MISSING', () => RunDirectory.open(join(dir, 'none'), 'read'))).toContain('no run at');
    expect(await failure('LT_RUN_MISSING', () => RunDirectory.open(dir, 'read'))).toContain('no config.json');
    writeFileSync(join(dir, 'config.json'), '{"version": "1"}');
    expect(await failure('LT_CHECKPOINT_CORRUPT', () => RunDirectory.open(dir, 'read'))).toContain('model');
  });
});

describe('a checkpoint', () => {
  test('a checkpoint comes back bit for bit with its digest, and is a Hugging Face model', async () => {
    const run = await newRun();
    const written = await run.writeCheckpoint(next(45));
    expect(written.path).toBe(join(run.checkpoints, '000045'));
    expect(written.digest).toBe(await digestState(TINY, 45, state(TINY, 45)));
    const { found, warnings } = await run.latest();
    if (!found) throw new Error('no checkpoint');
    expect(warnings).toEqual([]);
    const { step, version, tokensSeen, trainer } = next(45);
    expect(found.state).toEqual({ step, version, tokensSeen, trainer, digest: written.digest });
    let tensors = 0;
    await restoreCheckpoint(found, (part, name, values) => {
      expect(values).toEqual(state(TINY, 45)(part, name));
      tensors++;
    });
    expect(tensors).toBe(3 * 27);
    found.close();
    const model = await openModel(written.path);
    expect(model.config).toEqual(TINY);
    model.close();
  });

  test('a checkpoint of the low wire has the master weights as well, and its model is the weights', async () => {
    const run = await lowRun();
    const { path, digest } = await run.writeCheckpoint(lowNext(3));
    expect(digest).toBe(await digestState(TINY, 3, state(TINY, 3), 'low'));
    const optimizer = openSafetensors(join(path, 'optimizer.safetensors'));
    const names = [...optimizer.tensors.keys()];
    optimizer.close();
    expect(names).toEqual(
      ['master', 'm', 'v'].flatMap((part) => parameters(TINY).map(({ name }) => `${part}.${name}`)),
    );
    const { found } = await run.latest();
    if (!found) throw new Error('no checkpoint');
    expect(found.state.wire).toBe('low');
    const parts = new Set<StatePart>();
    await restoreCheckpoint(found, (part, name, values) => {
      expect(values, `${part} ${name}`).toEqual(state(TINY, 3)(part, name));
      parts.add(part);
    });
    expect([...parts]).toEqual(['weights', 'master', 'm', 'v']);
    found.close();
    const model = await openModel(path);
    expect(await model.read('ln_f.bias')).toEqual(state(TINY, 3)('weights', 'ln_f.bias'));
    model.close();
  });

  test('a checkpoint of an exact run says nothing of a wire, and has no master weights', async () => {
    const run = await newRun();
    const { path } = await run.writeCheckpoint({ ...next(3), wire: 'exact' });
    expect(Object.keys(JSON.parse(readFileSync(join(path, 'state.json'), 'utf8')))).toEqual([
      'step',
      'digest',
      'version',
      'tokensSeen',
      'trainer',
    ]);
    expect(readFileSync(join(path, 'optimizer.safetensors'), 'latin1')).not.toContain('master.');
  });

  test.each([
    [
      'its state is of the exact wire',
      (path: string) => rewrite(path, 'state.json', ' "wire": "low",', ''),
      'wire exact',
    ],
    [
      'master weights are missing',
      (path: string) => rewrite(path, 'optimizer.safetensors', '"master.ln_f.bias"', '"mister.ln_f.bias"'),
      'master.ln_f.bias is missing',
    ],
    ['a bit of the master weights has changed', flipMaster, 'its digest is'],
  ])('a checkpoint of the low wire is passed over where %s', async (_, damage, why) => {
    const run = await lowRun();
    for (const step of [2, 4]) await run.writeCheckpoint(lowNext(step));
    damage(join(run.checkpoints, '000004'));
    const { found, warnings } = await run.latest();
    expect(found?.state.step).toBe(2);
    expect(warnings).toEqual([expect.stringMatching(/^.*000004 is passed over: /)]);
    expect(warnings[0]).toContain(why);
    found?.close();
  });

  test('a checkpoint of the low wire is none of an exact run', async () => {
    const run = await newRun();
    await run.writeCheckpoint(lowNext(4));
    expect(await failure('LT_CHECKPOINT_CORRUPT', () => run.latest())).toContain(
      "its state.json says wire low, and the run's is exact",
    );
  });

  test('a checkpoint replaces an older one of the same step; the newest two stay', async () => {
    const run = await newRun();
    for (const step of [5, 10, 10, 999_999, 1_000_000]) await run.writeCheckpoint(next(step));
    expect(steps(run)).toEqual([999_999, 1_000_000]);
    await run.writeCheckpoint(next(1_000_001), Number.POSITIVE_INFINITY);
    expect(readdirSync(run.checkpoints).sort()).toEqual(['1000000', '1000001', '999999']);
  });

  test.each([
    ['its state is missing', (path: string) => rmSync(join(path, 'state.json'))],
    ['its state is cut off', (path: string) => truncateSync(join(path, 'state.json'), 20)],
    ['its weights are cut off', (path: string) => truncateSync(join(path, 'model.safetensors'), 5000)],
    ['its moments are cut off', (path: string) => truncateSync(join(path, 'optimizer.safetensors'), 5000)],
    ['its state is of another step', (path: string) => cpSync(join(path, '../000002'), path, { recursive: true })],
  ])('a checkpoint is passed over with a warning where %s', async (_, damage) => {
    const run = await newRun();
    for (const step of [2, 4]) await run.writeCheckpoint(next(step));
    damage(join(run.checkpoints, '000004'));
    const { found, warnings } = await run.latest();
    expect(found?.state.step).toBe(2);
    expect(warnings).toEqual([expect.stringContaining('000004 is passed over: ')]);
    found?.close();
    rmSync(join(run.checkpoints, '000002/model.safetensors'));
    const message = await failure('LT_CHECKPOINT_CORRUPT', () => run.latest());
    expect(message).toContain('no checkpoint that is whole');
  });

  test('a checkpoint with one changed bit is found out while it is restored', async () => {
    const run = await newRun();
    const { path } = await run.writeCheckpoint(next(4));
    const file = join(path, 'optimizer.safetensors');
    const bytes = readFileSync(file);
    bytes[bytes.length - 100] ^= 1;
    writeFileSync(file, bytes);
    const checkpoint = await openCheckpoint(path);
    const message = await failure('LT_CHECKPOINT_CORRUPT', () => restoreCheckpoint(checkpoint, () => {}));
    expect(message).toContain(`${path} is damaged`);
    checkpoint.close();
  });

  test('a checkpoint whose tensors cannot be read is not there at all, and the error is the reader’s own', async () => {
    const run = await newRun();
    await run.writeCheckpoint(next(4));
    const lost = new LantrainError('LT_GPU_LOST', 'the device is lost');
    const read = (part: StatePart, name: string) => {
      if (part === 'v') throw lost;
      return state(TINY)(part, name);
    };
    await expect(run.writeCheckpoint({ ...next(6), read })).rejects.toBe(lost);
    expect(readdirSync(run.checkpoints)).toEqual(['000004']);
  });

  test('what a crash left is swept by the next writer, not by a reader', async () => {
    const run = await newRun();
    for (const step of [2, 4]) await run.writeCheckpoint(next(step));
    mkdirSync(join(run.checkpoints, '000006.partial'));
    cpSync(join(run.checkpoints, '000002'), join(run.checkpoints, '000002.replaced'), { recursive: true });
    renameSync(join(run.checkpoints, '000004'), join(run.checkpoints, '000004.replaced'));
    for (const name of ['loss.svg.partial', 'report.html.partial', 'lock.1a2b3c4d.partial'])
      writeFileSync(join(run.path, name), '');
    const partial = () => readdirSync(run.path).filter((name) => name.endsWith('.partial'));
    await RunDirectory.open(run.path, 'read');
    expect(readdirSync(run.checkpoints)).toHaveLength(4);
    expect(steps(run)).toEqual([2]);
    expect(partial()).toHaveLength(3);
    // A crashed process does not hold the lock.
    run.close();
    await RunDirectory.open(run.path, 'write');
    // Another process may be making that lock just now.
    expect(partial()).toEqual(['lock.1a2b3c4d.partial']);
    expect(readdirSync(run.checkpoints).sort()).toEqual(['000002', '000004']);
  });
});

describe('metrics and samples', () => {
  const step = (at: number) => ({ event: 'step', step: at, loss: 1 / at });
  const sample = (at: number) => ({ event: 'sample', step: at, text: `text of ${at}\nin two lines` });
  const lines = (run: RunDirectory) =>
    readFileSync(join(run.path, 'metrics.jsonl'), 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));

  test('a run that goes on from a checkpoint has the events up to it, and none twice', async () => {
    const run = await newRun();
    const ends = ['done', 'stopped', 'failed'].map((event) => ({ event, step: 2 }));
    for (const event of [step(1), sample(1), step(2), sample(2), ...ends]) run.append(event);
    for (const event of [step(3), sample(3)]) run.append(event);
    run.close();
    appendFileSync(join(run.path, 'metrics.jsonl'), '{"event":"step","st');

    const again = await RunDirectory.open(run.path, 'write');
    await again.cutBack(2);
    again.append(step(3));
    again.close();
    expect(lines(run)).toEqual([step(1), sample(1), step(2), sample(2), step(3)]);
    expect(readFileSync(join(run.path, 'samples.txt'), 'utf8')).toBe(
      '--- step 1 ---\ntext of 1\nin two lines\n\n--- step 2 ---\ntext of 2\nin two lines\n\n',
    );
    await again.cutBack(0);
    expect(readFileSync(join(run.path, 'samples.txt'), 'utf8')).toBe('');
  });

  test('a run cut off before its first event goes on', async () => {
    const run = await newRun();
    await run.cutBack(0);
    run.append(step(1));
    run.close();
    expect(lines(run)).toEqual([step(1)]);
    expect(existsSync(join(run.path, 'samples.txt'))).toBe(false);
  });

  test('the plot is replaced whole', async () => {
    const run = await newRun();
    await run.writePlot('<svg>1</svg>');
    await run.writePlot('<svg>2</svg>');
    expect(readFileSync(join(run.path, 'loss.svg'), 'utf8')).toBe('<svg>2</svg>');
    expect(readdirSync(run.path).sort()).toEqual(['checkpoints', 'config.json', 'lock', 'loss.svg']);
  });
});

describe('the identity of a run', () => {
  test('differences between runs are named by path, and the order of keys makes none', () => {
    const wanted = { ...CONFIG, data: { ratio: 0.2, hash: 'abc' }, model: { ...TINY, width: 12 }, extra: null };
    expect(compareIdentity(CONFIG, wanted)).toEqual([
      'model.width is 6 in the run, 12 now',
      'data.ratio is 0.1 in the run, 0.2 now',
      'extra is not set in the run, null now',
    ]);
    expect(compareIdentity([1, { a: 2 }], [1, { a: 3 }])).toEqual(['[1].a is 2 in the run, 3 now']);
    expect(compareIdentity({ a: 1, b: [2] }, { b: [2], a: 1 })).toEqual([]);
  });

  test('a run with other settings is refused, all differences in one line', async () => {
    checkIdentity('runs/a', CONFIG, CONFIG);
    const message = await failure('LT_RUN_MISMATCH', () => checkIdentity('runs/a', CONFIG, { ...CONFIG, seed: 8 }));
    expect(message).toContain('runs/a cannot go on as another run: seed is 7 in the run, 8 now');
  });
});
