import { once } from 'node:events';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { endOf } from '../../src/report/course.js';
import { readMetrics } from '../../src/report/metrics.js';
import { GOLDEN_LOSS_ERROR, loadGolden, PORTABLE_LOSS_ERROR } from '../reference/golden.js';
import { slowTest } from '../slow.js';
import { sampled } from '../thorough.js';
import { lantrain, SMALL, workFolder } from './run.js';

const folder = workFolder();
afterAll(() => folder.remove());
const at = (name: string) => join(folder.path, name);
const train = (...args: string[]) => lantrain(['train', ...args, '--json'], { cwd: folder.path });
const digestOf = (run: Awaited<ReturnType<typeof train>>) => run.events.find((e) => e.event === 'done')?.digest;

describe('lantrain train on the golden data', () => {
  const models = [
    ['tied', 2, 'portable', PORTABLE_LOSS_ERROR],
    ['untied', 1, 'portable', PORTABLE_LOSS_ERROR],
    ['tied', 2, 'f32', GOLDEN_LOSS_ERROR],
    ['untied', 1, 'f32', GOLDEN_LOSS_ERROR],
  ] as const;
  test.each(sampled(models, 2))(
    'training the %s model with micro-batches of %i gives the losses of PyTorch in %s',
    async (name, microBatch, precision, most) => {
      const golden = loadGolden(name);
      writeFileSync(at(`${name}.bin`), Buffer.from(Uint16Array.from(golden.tokens).buffer));
      const args = [
        '--init',
        resolve('test/golden', name),
        '--data',
        `${name}.bin`,
        '--no-shuffle',
        '--val-ratio',
        '0',
        '--batch',
        String(golden.batch),
        '--steps',
        '20',
        '--precision',
        precision,
        '--dropout',
        '0',
        '--lr',
        '4e-4',
        '--weight-decay',
        '0.1',
        '--micro-batch',
        String(microBatch),
        '--out',
        `golden-${name}-${precision}`,
      ];
      const run = await train(...args);
      expect(run.code, run.stderr).toBe(0);
      const losses = run.events.filter((e) => e.event === 'step').map((e) => e.loss as number);
      expect(losses).toHaveLength(20);
      for (const [i, loss] of losses.entries())
        expect(Math.abs(loss - golden.losses[i]), `step ${i + 1}`).toBeLessThan(most);
    },
  );
});

describe('one run, one digest', () => {
  const options = [
    ...SMALL,
    '--steps',
    '12',
    '--dropout',
    '0.1',
    '--clip',
    '1',
    '--schedule',
    'cosine',
    '--warmup',
    '3',
  ];
  let whole: unknown;
  beforeAll(async () => {
    const first = await train(...options, '--out', 'first');
    whole = digestOf(first);
    expect(whole, first.stderr).toMatch(/^[0-9a-f]{64}$/);
  });

  slowTest('the same command twice ends with the same digest', async () => {
    expect(digestOf(await train(...options, '--out', 'second'))).toBe(whole);
    expect(digestOf(await train(...options, '--seed', '43', '--out', 'other'))).not.toBe(whole);
  });

  test('Ctrl-C finishes the step and writes a checkpoint, and the resumed run ends with the same digest', async () => {
    let asked = false;
    const stopped = await lantrain(['train', ...options, '--json', '--out', 'stopped'], {
      cwd: folder.path,
      onOutput: (text, signal) => {
        if (!asked && text.includes('"step":3,')) {
          asked = true;
          signal('SIGINT');
        }
      },
    });
    expect(stopped.code).toBe(130);
    expect(stopped.stderr).toContain('--resume stopped');
    const end = () => endOf(readMetrics(at('stopped/metrics.jsonl')));
    expect(end()).toEqual({ state: 'stopped' });
    expect(readFileSync(at('stopped/report.html'), 'utf8')).toContain('Stopped before its last step.');
    const resumed = await train('--resume', 'stopped');
    expect(digestOf(resumed), resumed.stderr).toBe(whole);
    expect(end()).toEqual({ state: 'done' });
    expect(readMetrics(at('stopped/metrics.jsonl')).filter(({ event }) => event === 'stopped')).toEqual([]);
    const steps = readFileSync(at('stopped/metrics.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(steps.filter((e) => e.event === 'step').map((e) => e.step)).toEqual(
      Array.from({ length: 12 }, (_, i) => i + 1),
    );
  });

  slowTest('a run killed between checkpoints goes on from the last one to the same digest', async () => {
    let killed = false;
    const dead = await lantrain(['train', ...options, '--json', '--checkpoint-every', '3', '--out', 'killed'], {
      cwd: folder.path,
      onOutput: (text, signal) => {
        if (!killed && text.includes('"event":"step","step":8')) {
          killed = true;
          signal('SIGKILL');
        }
      },
    });
    expect(dead.code).toBe(null);
    expect(digestOf(await train('--resume', 'killed'))).toBe(whole);
    expect(readdirSync(at('killed/checkpoints'))).not.toContainEqual(expect.stringContaining('partial'));
  });
});

describe('a run', () => {
  test('a run saves the step before the one whose loss turns NaN, and says both', async () => {
    const run = await train(...SMALL, '--steps', '9', '--lr', '1e30', '--checkpoint-every', '0', '--out', 'nan');
    expect(run.code).toBe(1);
    expect(run.stderr).toMatch(
      /error LT_TRAIN_NONFINITE: step 2: .*; the checkpoint of step 1 stands: nan.checkpoints.000001\n$/,
    );
    expect(run.events.at(-1)).toMatchObject({ event: 'checkpoint', step: 1 });
    expect(readdirSync(at('nan/checkpoints'))).toEqual(['000001']);
    const end = endOf(readMetrics(at('nan/metrics.jsonl')));
    expect(end).toEqual({ state: 'failed', reason: expect.stringMatching(/^step 2:/) });
    expect(readFileSync(at('nan/report.html'), 'utf8')).toContain('Failed: step 2:');
  });

  slowTest('a run that cannot have the port of its page is told before anything of it has changed', async () => {
    const run = await train(...SMALL, '--steps', '3', '--checkpoint-every', '2', '--out', 'port');
    expect(run.code, run.stderr).toBe(0);
    // The state that a run leaves when it is killed after step 3.
    rmSync(at('port/checkpoints/000003'), { recursive: true });
    const before = readFileSync(at('port/metrics.jsonl'), 'utf8');
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    const { port } = taken.address() as AddressInfo;
    const refused = await train('--resume', 'port', '--watch', `127.0.0.1:${port}`);
    taken.close();
    expect(refused.stderr).toMatch(/^error LT_CLUSTER_LISTEN: .*choose another --watch HOST:PORT\n$/m);
    expect(refused.code).toBe(1);
    expect(readFileSync(at('port/metrics.jsonl'), 'utf8')).toBe(before);
  });

  slowTest(
    'a run exports weights that another run begins with, and generates the same text for the same seed',
    async () => {
      const made = await train(...SMALL, '--steps', '2', '--out', 'source');
      expect(made.code, made.stderr).toBe(0);
      expect((await lantrain(['export', '--run', 'source', '--out', 'model'], { cwd: folder.path })).code).toBe(0);
      const next = await train(
        '--init',
        'model',
        '--data',
        'text.txt',
        '--batch',
        '2',
        '--steps',
        '1',
        '--out',
        'next',
        '--sample-tokens',
        '0',
      );
      expect(next.code, next.stderr).toBe(0);
      const say = () =>
        lantrain(['generate', '--run', 'source', '--prompt', 'the sea', '--tokens', '40'], { cwd: folder.path });
      const [one, two] = [await say(), await say()];
      expect(one.code, one.stderr).toBe(0);
      expect(one.stdout.startsWith('the sea')).toBe(true);
      expect(one.stdout.length).toBeGreaterThan(30);
      expect(two.stdout).toBe(one.stdout);
    },
  );
});
