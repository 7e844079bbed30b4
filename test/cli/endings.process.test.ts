import { closeSync, existsSync, openSync, readdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, afterEach, expect, test } from 'vitest';
import { listCheckpoints } from '../../src/checkpoint/checkpoint.js';
import { parseFragment } from '../../src/watch/messages.js';
import { adminLinkOf, type Event, joinUrlOf, Lantrain, lossesOf, startWorker } from '../cluster/processes.js';
import { eventsOf } from '../cluster/seeded.js';
import { slowTest } from '../slow.js';
import { FakePage } from '../watch/helpers.js';
import { SMALL, workFolder } from './run.js';

const folder = workFolder();
afterAll(() => folder.remove());
const at = (name: string) => join(folder.path, name);
const newest = (run: string) => listCheckpoints(join(at(run), 'checkpoints')).at(-1)?.step;
const stepsOf = (run: string) =>
  eventsOf(at(run))
    .filter(({ event }) => event === 'step')
    .map(({ step }) => step);
const leftovers = (run: string) =>
  readdirSync(at(run), { recursive: true })
    .map(String)
    .filter((name) => name === 'lock' || name.endsWith('.partial'));

const started = new Set<Lantrain>();
afterEach(async () => {
  for (const one of started) one.signal('SIGKILL');
  await Promise.all([...started].map((one) => one.ended));
  started.clear();
});

function lantrain(
  args: readonly string[],
  to: ConstructorParameters<typeof Lantrain>[4] = {},
  environment: Readonly<Record<string, string>> = {},
): Lantrain {
  const process = new Lantrain(args, folder.path, undefined, environment, to);
  started.add(process);
  return process;
}

/** Resolves once the run has such an event; rejects when its process ends before. */
async function event(run: string, process: Lantrain, fits: (e: Event) => boolean) {
  for (;;) {
    const found = eventsOf(at(run)).find(fits);
    if (found) return found;
    if (!process.running) throw new Error(`it ended before:\n${process.text}`);
    await new Promise((go) => setTimeout(go, 10));
  }
}

/** A step of 16 stacks of micro-batches, which takes over a second. */
const LONG = [
  ...SMALL,
  '--steps',
  '40',
  '--stride',
  '1',
  '--batch',
  '1024',
  '--micro-batch',
  '1',
  '--stack',
  '64',
  '--eval-every',
  '0',
];

slowTest(
  'SIGUSR1 and SIGUSR2 save and go on; SIGHUP stops, and a second signal in mid-step saves the step before',
  async () => {
    const run = lantrain(['train', ...LONG, '--checkpoint-every', '0', '--watch', '--out', 'long', '--json']);
    for (const [step, signal] of [
      [1, 'SIGUSR1'],
      [2, 'SIGUSR2'],
    ] as const) {
      await event('long', run, (e) => e.event === 'step' && e.step === step);
      run.signal(signal);
      await event('long', run, (e) => e.event === 'checkpoint' && Number(e.step) >= step);
    }
    // A pause does not count against the current step.
    const { port, hash } = new URL(await adminLinkOf(run, folder.path));
    const page = await FakePage.enter(Number(port), parseFragment(hash));
    const seen = Number(stepsOf('long').at(-1));
    const before = await event('long', run, (e) => e.event === 'step' && Number(e.step) > seen);
    page.send({ type: 'control', action: 'pause' });
    const inHand = await event('long', run, (e) => e.event === 'step' && Number(e.step) > Number(before.step));
    page.send({ type: 'control', action: 'resume' });
    await page.next('answer', ({ action }) => action === 'resume');
    expect(Number(inHand.tokensPerSecond)).toBeLessThan(4 * Number(before.tokensPerSecond));
    page.ws.close();

    const goes = Number(stepsOf('long').at(-1));
    const last = Number((await event('long', run, (e) => e.event === 'step' && Number(e.step) > goes)).step);
    run.signal('SIGHUP');
    run.signal('SIGTERM');
    expect(await run.ended, run.text).toBe(130);
    // The current step had another second to run.
    expect(stepsOf('long').at(-1)).toBe(last);
    expect(newest('long')).toBe(last);
    expect(run.text).toContain(`stopped after step ${last} of`);
    expect(run.text).not.toMatch(/debugger|\n\s+at /i);
    expect(leftovers('long')).toEqual([]);

    const resumed = lantrain(['train', '--resume', 'long', '--json']);
    await resumed.printed(/^model /m);
    resumed.signal('SIGHUP');
    expect(await resumed.ended, resumed.text).toBe(130);
    expect(resumed.text).toContain('stopped before the first step');
    expect([newest('long'), stepsOf('long').at(-1), leftovers('long')]).toEqual([last, last, []]);
  },
);

test('a new run that is stopped before its first step leaves nothing behind, nor one that is in the making', async () => {
  const run = lantrain(['train', ...SMALL, '--steps', '9', '--out', 'early', '--json']);
  await run.printed(/^model /m);
  run.signal('SIGTERM');
  expect(await run.ended, run.text).toBe(130);
  expect(run.text).toContain('stopped before the first step');
  expect(existsSync(at('early'))).toBe(false);

  const slow = { NODE_OPTIONS: `--import ${resolve('test/cli/slow-disk.mjs')}`, SLOW_SYNC_MS: '500' };
  const making = lantrain(['train', ...SMALL, '--steps', '9', '--out', 'making', '--json'], {}, slow);
  await new Promise<void>((go) => {
    const watch = setInterval(() => {
      if (making.running && !existsSync(at('making'))) return;
      clearInterval(watch);
      go();
    }, 10);
  });
  making.signal('SIGINT');
  expect(await making.ended, making.text).toBe(130);
  expect(making.text).toContain('stopped before the first step');
  expect(existsSync(at('making'))).toBe(false);
});

slowTest('a run whose output nobody reads, or is on a full disk, goes on and says so where it can', async () => {
  const args = (name: string) => ['train', ...SMALL, '--steps', '4', '--out', name];
  const unread = lantrain(args('unread'));
  const full = existsSync('/dev/full') ? openSync('/dev/full', 'w') : undefined;
  const onFull = full === undefined ? undefined : lantrain(args('full'), { stdout: full });
  await unread.printed(/^model /m);
  unread.stopReading();
  expect(await unread.ended).toBe(0);
  const lost = (run: string) =>
    eventsOf(at(run))
      .filter((e) => e.event === 'output')
      .map(({ reason }) => reason);
  expect(lost('unread')).toContain(
    'standard output is lost: nobody reads it any more (EPIPE); the run goes on without it',
  );
  expect(stepsOf('unread')).toEqual([1, 2, 3, 4]);
  if (onFull && full !== undefined) {
    expect(await onFull.ended, onFull.text).toBe(0);
    closeSync(full);
    expect(lost('full')).toEqual([
      'standard output is lost: no space left on device (ENOSPC); the run goes on without it',
    ]);
    expect(onFull.text).toContain(lost('full')[0]);
    expect(onFull.text).not.toMatch(/unexpected|\n\s+at /);
    expect(stepsOf('full')).toEqual([1, 2, 3, 4]);
  }

  // Like `generate | head -c 1`.
  const text = lantrain(['generate', '--run', 'unread', '--prompt', 'the sea', '--tokens', '400']);
  text.child.stdout?.once('data', () => text.child.stdout?.destroy());
  expect(await text.ended).toBe(0);
  expect(text.text).not.toMatch(/unexpected|EPIPE|\n\s+at /);
});

slowTest('a run that was killed between its last step and its end is finished by --resume', async () => {
  const run = lantrain(['train', ...SMALL, '--steps', '3', '--checkpoint-every', '1', '--out', 'almost', '--json']);
  expect(await run.ended, run.text).toBe(0);
  const [whole, done] = [eventsOf(at('almost')), run.digest()];
  // The state of a run that is killed in the evaluation after its last step, when a signal has saved that step.
  const cut = whole.slice(0, whole.findIndex((e) => e.event === 'step' && e.step === 3) + 1);
  writeFileSync(join(at('almost'), 'metrics.jsonl'), cut.map((e) => `${JSON.stringify(e)}\n`).join(''));
  const resumed = lantrain(['train', '--resume', 'almost', '--json']);
  expect(await resumed.ended, resumed.text).toBe(0);
  expect(resumed.digest()).toBe(done);
  expect(lossesOf(eventsOf(at('almost')))).toEqual(lossesOf(whole));
  const again = lantrain(['train', '--resume', 'almost']);
  expect(await again.ended).toBe(1);
  expect(again.text).toContain('LT_RUN_MISMATCH');
});

slowTest('the wait for workers does not count into the speed of the first step', async () => {
  const WAIT_MS = 5000;
  const options = [...SMALL, '--batch', '4', '--micro-batch', '1', '--steps', '3', '--eval-every', '0'];
  const run = lantrain(['coordinator', '--listen', '127.0.0.1:0', ...options, '--out', 'waits']);
  const url = await joinUrlOf(run);
  await run.printed(/waiting for workers/);
  await new Promise((go) => setTimeout(go, WAIT_MS));
  started.add(startWorker(url, 'late', folder.path));
  await run.printed(/going on/);
  const goesOn = performance.now();
  await event('waits', run, (e) => e.event === 'step');
  const tookSeconds = (performance.now() - goesOn) / 1000;
  expect(await run.ended, run.text).toBe(0);
  const { tokens, tokensPerSecond } = eventsOf(at('waits')).find((e) => e.event === 'step') as {
    tokens?: number;
    tokensPerSecond?: number;
  };
  // The test may notice events late, but by less than half of the wait.
  const slack = WAIT_MS / 2000;
  expect(Number(tokens) / Number(tokensPerSecond)).toBeLessThan(tookSeconds + slack);
});
