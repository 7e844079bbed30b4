import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { listCheckpoints } from '../../src/checkpoint/checkpoint.js';
import { type LiveRun, type RunEvent, type TrainRequest, train } from '../../src/index.js';
import { readMetrics } from '../../src/report/metrics.js';
import { failure } from '../checkpoint/helpers.js';
import { lantrain, SMALL, workFolder } from '../cli/run.js';
import { slowTest } from '../slow.js';
import { TINY_RUN, undisturbedHost, watched } from './host.js';

const folder = workFolder();
afterAll(() => folder.remove());
const at = (name: string) => join(folder.path, name);
const data = at('text.txt');

const STEPS = 6;
const OPTIONS: TrainRequest = { ...TINY_RUN, data, steps: STEPS };
undisturbedHost();

let whole: string;

test('a run tells everything in order, and ends with the digest of the command line', async () => {
  const { events, hooks } = watched();
  const result = await train({ ...OPTIONS, out: at('whole') }, hooks);
  whole = result.digest;
  const { planHash } = result;
  expect(result).toEqual({ path: at('whole'), step: STEPS, digest: whole, complete: true, planHash });
  const order = events.map((event) =>
    'step' in event ? `${event.event} ${event.step}` : event.event === 'phase' ? event.phase : event.event,
  );
  expect(new Set(order.slice(0, order.indexOf('begin')))).toEqual(new Set(['note', 'progress']));
  expect(order.slice(order.indexOf('begin'))).toEqual([
    'begin',
    ...['step 1', 'evaluating', 'eval 1', 'training', 'step 2', 'step 3', 'step 4'],
    ...['step 5', 'evaluating', 'eval 5', 'training', 'step 6', 'evaluating', 'eval 6', 'training'],
    ...['saving', 'checkpoint 6', 'done 6', 'end 6'],
  ]);
  const evaluations = events.filter((event) => event.event === 'eval');
  const best = evaluations.reduce((a, b) => (Number(b.valLoss) < Number(a.valLoss) ? b : a));
  expect(events.at(-1)).toEqual({
    event: 'end',
    ...result,
    totalSteps: STEPS,
    isExtendable: true,
    prompt: 'The whale ',
    evaluation: evaluations.at(-1),
    best: { step: best.step, loss: best.valLoss },
  });
  // The told events are those in the file.
  const kinds = new Set(['step', 'eval', 'checkpoint', 'done']);
  expect(readMetrics(join(at('whole'), 'metrics.jsonl'))).toEqual(events.filter(({ event }) => kinds.has(event)));
  expect(readFileSync(join(at('whole'), 'loss.svg'), 'utf8')).toContain('Validation loss');

  const args = ['train', ...SMALL, '--dropout', '0.1', '--steps', String(STEPS), '--out', 'command', '--json'];
  const command = await lantrain(args, { cwd: folder.path });
  expect(command.events.at(-1)?.digest, command.stderr).toBe(whole);
});

slowTest('token arrays give the digest of a text of the same tokens, in two runs at once as well', async () => {
  const ids = new Uint16Array(readFileSync(data));
  const split = Math.floor(0.9 * ids.length);
  const parts = { train: Array.from(ids.subarray(0, split)), validation: new Uint32Array(ids.subarray(split)) };
  const runs = await Promise.all([
    train({ ...OPTIONS, data: ids, out: at('array') }),
    train({ ...OPTIONS, data: parts, out: at('parts') }),
  ]);
  expect(runs.map(({ digest }) => digest)).toEqual([whole, whole]);
  expect(await failure('LT_DATA_TOKEN', () => train({ ...OPTIONS, data: [1, 2, 256] }))).toContain('data[2] is 256');
  expect(await failure('LT_DATA_MISSING', () => train({ resume: at('array'), steps: 8 }))).toContain('token arrays');
  const longer = await train({ resume: at('array'), data: ids, steps: 8 });
  expect(longer).toMatchObject({ step: 8, complete: true });
  await failure('LT_RUN_MISMATCH', () => train({ resume: at('parts'), data: ids, steps: 8 }));
});

test('an abort ends a run after its step with a checkpoint, and the run that goes on ends with the same digest', async () => {
  const stop = new AbortController();
  let live: LiveRun | undefined;
  const onBegin = (run: LiveRun) => {
    live = run;
  };
  const { events, hooks } = watched((step) => step === 3 && stop.abort(), { signal: stop.signal, onBegin });
  const stopped = await train({ ...OPTIONS, out: at('stopped') }, hooks);
  expect(stopped).toMatchObject({ step: 3, complete: false });
  expect(events.map(({ event }) => event)).toContain('stopping');
  expect(events.at(-2)).toMatchObject({ event: 'stopped', step: 3 });
  expect(live?.standing()).toMatch(/^the checkpoint of step 3 stands/);
  expect(listCheckpoints(join(at('stopped'), 'checkpoints')).map(({ step }) => step)).toEqual([3]);
  const resumed = await train({ resume: at('stopped') });
  expect(resumed).toMatchObject({ step: STEPS, digest: whole, complete: true });
});

test('haste gives up the step in hand, and the steps before it are saved', async () => {
  const haste = new AbortController();
  // During the evaluation after step 5.
  const { hooks } = watched((step) => step === 5 && haste.abort(), { haste: haste.signal });
  expect(await train({ ...OPTIONS, out: at('hasty') }, hooks)).toMatchObject({ step: 5, complete: false });
  expect(await train({ resume: at('hasty') })).toMatchObject({ digest: whole });
});

test('an abort before the first step leaves nothing behind', async () => {
  const runs = readdirSync(folder.path);
  const now = AbortSignal.abort();
  expect(await failure('LT_RUN_STOPPED', () => train({ ...OPTIONS, out: at('never') }, { signal: now }))).toContain(
    'before its first step',
  );
  const stop = new AbortController();
  const onEvent = (event: RunEvent) => {
    if (event.event === 'progress' && event.label === 'compiling the kernels') stop.abort();
  };
  const { events, hooks } = watched(undefined, { signal: stop.signal, onEvent });
  await failure('LT_RUN_STOPPED', () => train({ ...OPTIONS, out: at('early') }, hooks));
  const told = events.length;
  // Unfinished preparation ends in the background and tells no events.
  await new Promise((go) => setTimeout(go, 1000));
  expect(events.length).toBe(told);
  expect(readdirSync(folder.path)).toEqual(runs);
});

test('one run writes a folder, also of two in this process, and each gives it back', async () => {
  const stop = new AbortController();
  const first = train(
    { ...OPTIONS, steps: 500, out: at('locked') },
    watched((step) => step === 1 && go(), { signal: stop.signal }).hooks,
  );
  let go = () => {};
  await new Promise<void>((begun) => {
    go = begun;
  });
  expect(await failure('LT_RUN_LOCKED', () => train({ resume: at('locked') }))).toContain(
    'another run of this process',
  );
  stop.abort();
  const { step } = await first;
  expect(await train({ resume: at('locked'), steps: step + 1 })).toMatchObject({ step: step + 1, complete: true });
  expect(existsSync(join(at('locked'), 'lock'))).toBe(false);
});

test('what cannot be is refused by its name, and what a hook throws fails the run', async () => {
  expect(await failure('LT_USAGE_OPTION', () => train({ ...OPTIONS, lr: -1 }))).toBe('lr must be above 0');
  const misspelt = { ...OPTIONS, layer: 2 };
  expect(await failure('LT_USAGE_OPTION', () => train(misspelt))).toBe('there is no option layer; leave it out');
  expect(await failure('LT_USAGE_PRESET', () => train({ preset: 'huge' as 'tiny' }))).toContain('presets: tiny, ');
  expect(await failure('LT_USAGE_OPTION', () => train({ ...OPTIONS, watch: '7070' }))).toContain('--watch 7070');
  const broken = watched((step) => {
    if (step === 2) throw new Error('the host is broken');
  });
  await expect(train({ ...OPTIONS, out: at('broken') }, broken.hooks)).rejects.toThrow('the host is broken');
  expect(readMetrics(join(at('broken'), 'metrics.jsonl')).at(-1)).toMatchObject({
    event: 'failed',
    step: 2,
    reason: 'the host is broken',
  });
});
