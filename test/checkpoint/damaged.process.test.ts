import { chmodSync, cpSync, existsSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { openModel } from '../../src/checkpoint/huggingface.js';
import { RunDirectory } from '../../src/checkpoint/run.js';
import { openSafetensors } from '../../src/checkpoint/safetensors.js';
import { runCommandLine } from '../../src/cli/command-line.js';
import { exportModel } from '../../src/run/export-model.js';
import { generate } from '../../src/run/generate.js';
import { BASE_OPTIONS } from '../../src/train/options.js';
import { failure, scratch, state, TINY } from './helpers.js';

const CONFIG = {
  version: '0.1.0',
  model: TINY,
  options: BASE_OPTIONS,
  data: { hash: '', description: '' },
  adapter: '',
  totalSteps: 9,
  stepsPerEpoch: 9,
};
const next = (step: number) => ({ model: TINY, step, version: '0.1.0', tokensSeen: 0, read: state(TINY, step) });

/** A run with checkpoints of these steps, closed. */
async function runWith(...steps: number[]): Promise<string> {
  const run = await RunDirectory.create(join(scratch(), 'run'), CONFIG);
  for (const step of steps) {
    const { digest, path } = await run.writeCheckpoint(next(step), steps.length);
    run.append({ event: 'checkpoint', step, ...{ digest, path } });
  }
  run.close();
  return run.path;
}

function flip(path: string, file: string, fromEnd = 100): void {
  const bytes = readFileSync(join(path, file));
  bytes[bytes.length - fromEnd] ^= 1;
  writeFileSync(join(path, file), bytes);
}
const checkpoint = (run: string, step: number) => join(run, 'checkpoints', String(step).padStart(6, '0'));
const names = (run: string) => readdirSync(join(run, 'checkpoints')).sort();
/** Every file and what is in it. */
const contents = (dir: string) =>
  readdirSync(dir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => [join(entry.parentPath, entry.name), readFileSync(join(entry.parentPath, entry.name), 'latin1')])
    .sort();

describe('a checkpoint with a changed bit', () => {
  test.each([
    ['a weight', 'model.safetensors', 4],
    ['a first moment', 'optimizer.safetensors', 4 * 1000],
    ['a second moment', 'optimizer.safetensors', 4],
  ])('a checkpoint with a changed bit in %s is passed over as one that is cut off is', async (_, file, fromEnd) => {
    const path = await runWith(2, 4);
    flip(checkpoint(path, 4), file, fromEnd);
    const run = await RunDirectory.open(path, 'read');
    const { found, warnings } = await run.latest();
    expect(found?.state.step).toBe(2);
    found?.close();
    expect(warnings).toEqual([expect.stringMatching(/000004 is passed over: .*000004 is damaged: its digest is /)]);
    flip(checkpoint(path, 2), file, fromEnd);
    expect(await failure('LT_CHECKPOINT_CORRUPT', () => run.latest())).toMatch(
      /no checkpoint that is whole: .*4.*; .*2/,
    );
  });

  test('a damaged checkpoint is not exported and writes no text; the one before is used, and the line says so', async () => {
    const path = await runWith(2, 4);
    flip(checkpoint(path, 4), 'optimizer.safetensors');
    const said: string[] = [];
    const [out, err] = [vi.spyOn(process.stdout, 'write'), vi.spyOn(process.stderr, 'write')];
    for (const stream of [out, err]) stream.mockImplementation((text) => said.push(String(text)) > 0);
    const to = join(scratch(), 'exported');
    try {
      expect(await runCommandLine(['export', '--run', path, '--out', to])).toBe(0);
    } finally {
      out.mockRestore();
      err.mockRestore();
    }
    expect(said).toEqual([
      expect.stringContaining('000004 is passed over'),
      `wrote the weights of ${checkpoint(path, 2)} to ${to}\n`,
    ]);
    const model = await openModel(to);
    expect(model.read('wpe.weight')).toEqual(state(TINY, 2)('weights', 'wpe.weight'));
    model.close();

    flip(checkpoint(path, 2), 'model.safetensors');
    writeFileSync(join(path, 'config.json'), JSON.stringify({ ...CONFIG, model: { ...TINY, vocabSize: 50_257 } }));
    const before = contents(path);
    const request = { run: path, prompt: 'a', tokens: 1, temperature: 0, topK: 0, seed: 1, adapter: 'none' };
    await failure('LT_CHECKPOINT_CORRUPT', () => generate(request).next());
    const elsewhere = join(scratch(), 'other');
    await failure('LT_CHECKPOINT_CORRUPT', () => exportModel({ run: path, out: elsewhere }));
    expect(existsSync(elsewhere)).toBe(false);
    expect(contents(path)).toEqual(before);
  });

  test('a checkpoint that is of another model is passed over as well', async () => {
    const [path, other] = [
      await runWith(2, 4),
      await RunDirectory.create(join(scratch(), 'b'), { ...CONFIG, model: { ...TINY, heads: 2 } }),
    ];
    await other.writeCheckpoint({ ...next(6), model: other.config.model });
    cpSync(checkpoint(other.path, 6), checkpoint(path, 6), { recursive: true });
    other.close();
    const { found, warnings } = await (await RunDirectory.open(path, 'read')).latest();
    expect(found?.state.step).toBe(4);
    found?.close();
    expect(warnings).toEqual([expect.stringContaining('of another model (heads is 3 in the run, 2 now)')]);
  });

  test('a checkpoint whose bytes the disk does not give is damaged as well', async () => {
    const file = openSafetensors(join(checkpoint(await runWith(2), 2), 'model.safetensors'));
    file.close();
    expect(await failure('LT_CHECKPOINT_CORRUPT', () => file.read('transformer.wpe.weight'))).toContain(
      'cannot be read: bad file descriptor (EBADF)',
    );
  });
});

test('a checkpoint that this process may not read is not damaged: the system is why, and it keeps its place', async () => {
  const path = await runWith(2, 4);
  const file = join(checkpoint(path, 4), 'model.safetensors');
  chmodSync(file, 0);
  for (let dir = checkpoint(path, 4); dir !== tmpdir(); dir = dirname(dir)) chmodSync(dir, 0o755);
  const run = await RunDirectory.open(path, 'write');
  // Root may read everything.
  const isRoot = process.geteuid?.() === 0;
  if (isRoot) process.seteuid?.('nobody');
  try {
    expect(await failure('LT_CHECKPOINT_CORRUPT', () => run.latest())).toContain('(EACCES)');
  } finally {
    if (isRoot) process.seteuid?.(0);
  }
  await run.writeCheckpoint(next(6), 2);
  run.close();
  expect(names(path)).toEqual(['000004', '000006']);
});

describe('a damaged checkpoint, when the run goes on from the one before', () => {
  test('a damaged checkpoint is set aside with all its bytes, is not listed and takes the place of none', async () => {
    const path = await runWith(2, 4, 6);
    flip(checkpoint(path, 6), 'model.safetensors');
    const damaged = contents(checkpoint(path, 6)).map(([, bytes]) => bytes);
    const run = await RunDirectory.open(path, 'write');
    const { found, warnings } = await run.latest();
    found?.close();
    expect(warnings).toEqual([
      expect.stringMatching(/000006 is passed over: .*; when the run goes on, it is set aside as 000006\.damaged$/),
    ]);
    await run.cutBack(4);
    expect(names(path)).toEqual(['000002', '000004', '000006.damaged']);
    expect(run.list().map(({ step }) => step)).toEqual([2, 4]);
    const events = readFileSync(join(path, 'metrics.jsonl'), 'utf8').trim().split('\n');
    expect(events.map((line) => JSON.parse(line).step)).toEqual([2, 4]);

    await run.writeCheckpoint(next(6));
    expect(names(path)).toEqual(['000004', '000006', '000006.damaged']);
    await run.writeCheckpoint(next(8));
    expect(names(path)).toEqual(['000006', '000006.damaged', '000008']);
    run.close();
    expect(contents(`${checkpoint(path, 6)}.damaged`).map(([, bytes]) => bytes)).toEqual(damaged);
  });

  test('a damaged checkpoint keeps its name until the run goes on, and the sweep after a crash leaves those set aside', async () => {
    const path = await runWith(2, 4);
    truncateSync(join(checkpoint(path, 4), 'state.json'), 9);
    cpSync(checkpoint(path, 2), `${checkpoint(path, 6)}.damaged`, { recursive: true });
    const before = contents(path);
    for (const purpose of ['read', 'write'] as const) {
      const run = await RunDirectory.open(path, purpose);
      (await run.latest()).found?.close();
      run.close();
      expect(contents(path)).toEqual(before);
    }
  });

  test('a damaged checkpoint gets a name of its own where one of the same step was set aside before', async () => {
    const path = await runWith(2, 4);
    for (const name of ['000004.damaged', '000004.damaged-2']) {
      truncateSync(join(checkpoint(path, 4), 'model.safetensors'), 50);
      const run = await RunDirectory.open(path, 'write');
      const { found, warnings } = await run.latest();
      expect(warnings[0]).toContain(`set aside as ${name}`);
      found?.close();
      await run.cutBack(2);
      await run.writeCheckpoint(next(4));
      run.close();
      expect(names(path)).toContain(name);
    }
    expect(names(path)).toEqual(['000002', '000004', '000004.damaged', '000004.damaged-2']);
  });

  test('a checkpoint found damaged only while the run goes on does not count among those that stay', async () => {
    const path = await runWith(2, 4);
    const run = await RunDirectory.open(path, 'write');
    truncateSync(join(checkpoint(path, 4), 'optimizer.safetensors'), 500);
    await run.writeCheckpoint(next(6));
    expect(names(path)).toEqual(['000002', '000004.damaged', '000006']);
    await run.writeCheckpoint(next(8));
    expect(names(path)).toEqual(['000004.damaged', '000006', '000008']);
    run.close();
  });
});
