import { cpSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Finished, lantrain, SMALL, workFolder } from '../cli/run.js';
import { slowTest } from '../slow.js';

const folder = workFolder();
afterAll(() => folder.remove());
const checkpointsOf = (name: string) => readdirSync(join(folder.path, name, 'checkpoints')).sort();

const STEPS = 12;
const OPTIONS = [...SMALL, '--dropout', '0.1', '--eval-every', '0'];

/** A checkpoint has about fifty writes and takes over a second, long enough for a hundred steps. */
const SLOW = { SLOW_DISK_MS: '25' };

type OnOutput = (text: string, signal: (s: NodeJS.Signals) => void) => void;

function train(disk: Record<string, string>, args: readonly string[], onOutput?: OnOutput): Promise<Finished> {
  const env = { NODE_OPTIONS: `--import ${resolve('test/cli/slow-disk.mjs')}`, ...disk };
  return lantrain(['train', ...args, '--json'], { cwd: folder.path, env, onOutput });
}

const run = (name: string, every: number, disk: Record<string, string>, onOutput?: OnOutput) =>
  train(disk, [...OPTIONS, '--steps', String(STEPS), '--checkpoint-every', String(every), '--out', name], onOutput);

/** Sends a signal once, when a step is done. */
function signalAt(step: number, what: NodeJS.Signals): OnOutput {
  let sent = false;
  return (text, signal) => {
    if (sent || !text.includes(`"event":"step","step":${step},`)) return;
    sent = true;
    signal(what);
  };
}

const digestOf = ({ events, stderr }: Finished, kind: string, step: number) => {
  const found = events.find((e) => e.event === kind && e.step === step);
  expect(found, stderr).toBeDefined();
  return found?.digest;
};

let whole: unknown;
beforeAll(async () => {
  whole = digestOf(await run('whole', 0, {}), 'done', STEPS);
});

slowTest('steps go on while a slow disk takes a checkpoint, which holds the state of its own step', async () => {
  const slow = await run('slow', 5, SLOW);
  expect(digestOf(slow, 'done', STEPS)).toBe(whole);
  const order = slow.events.filter((e) => e.event !== 'done').map((e) => `${e.event} ${e.step}`);
  const steps = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => `step ${from + i}`);
  // The checkpoints of steps 10 and 12 wait for the one before.
  expect(order).toEqual([...steps(1, 10), 'checkpoint 5', ...steps(11, 12), 'checkpoint 10', 'checkpoint 12']);
  const short = await train({}, [...OPTIONS, '--steps', '5', '--out', 'short']);
  expect(digestOf(slow, 'checkpoint', 5)).toBe(digestOf(short, 'done', 5));

  cpSync(join(folder.path, 'slow'), join(folder.path, 'resumed'), { recursive: true });
  expect(checkpointsOf('resumed')).toEqual(['000010', '000012']);
  rmSync(join(folder.path, 'resumed/checkpoints/000012'), { recursive: true });
  expect(digestOf(await train({}, ['--resume', 'resumed']), 'done', STEPS)).toBe(whole);
});

test('a run killed while a checkpoint is written goes on from the one before', async () => {
  // Step 9 comes while the checkpoint of step 8 is written, which waited for the one of step 4.
  const killed = await run('killed', 4, SLOW, signalAt(9, 'SIGKILL'));
  expect(killed.code).toBe(null);
  expect(checkpointsOf('killed')).toEqual(['000004', expect.stringMatching(/^000008\.[0-9a-f]{16}\.partial$/)]);
  const resumed = await train({}, ['--resume', 'killed']);
  expect(digestOf(resumed, 'done', STEPS)).toBe(whole);
  expect(resumed.events[0]).toMatchObject({ event: 'step', step: 5 });
  expect(checkpointsOf('killed')).not.toContainEqual(expect.stringContaining('partial'));
});

slowTest('Ctrl-C waits for the checkpoint on its way to the disk and for the last one', async () => {
  const stopped = await run('stopped', 4, SLOW, signalAt(6, 'SIGINT'));
  expect(stopped.code, stopped.stderr).toBe(130);
  const last = stopped.events.filter((e) => e.event === 'step').at(-1)?.step as number;
  expect(stopped.events.slice(-2)).toMatchObject([
    { event: 'checkpoint', step: 4 },
    { event: 'checkpoint', step: last },
  ]);
  expect(checkpointsOf('stopped')).toHaveLength(2);
  expect(digestOf(await train({}, ['--resume', 'stopped']), 'done', STEPS)).toBe(whole);
});

slowTest('a disk that fills up meanwhile ends the run with one line, and the checkpoint before it stands', async () => {
  const path = join(folder.path, 'whole/checkpoints/000012');
  const bytes = readdirSync(path).reduce((sum, name) => sum + statSync(join(path, name)).size, 0);
  const full = await run('full', 4, { SLOW_DISK_MS: '2', SLOW_DISK_BYTES: String(Math.floor(1.5 * bytes)) });
  expect(full.code).toBe(1);
  // The loss is told once, by the run. The number of steps in the meantime depends on the disk.
  const last = full.events.filter((e) => e.event === 'step').at(-1)?.step;
  expect(full.stderr.split('\n').at(-2)).toBe(
    `error LT_RUN_WRITE: cannot write full/checkpoints/000008: no space left on device (ENOSPC); steps 5 to ${last} are lost; the checkpoint of step 4 stands: full/checkpoints/000004`,
  );
  expect(checkpointsOf('full')).toEqual(['000004']);
  expect(full.events.filter((e) => e.event === 'checkpoint')).toMatchObject([{ step: 4 }]);
});
