import { afterEach, expect, test, vi } from 'vitest';
import { StopSignals } from '../../src/cli/stop-signals.js';
import { LantrainError } from '../../src/errors.js';
import { StopRequest } from '../../src/run/stop.js';

const STOPS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
const SAVES = ['SIGUSR1', 'SIGUSR2'] as const;

afterEach(() => {
  for (const signal of [...STOPS, ...SAVES]) process.removeAllListeners(signal);
  vi.useRealTimers();
});

/** A run that gets the test's signals and records their effects. */
function signals({
  waits = false,
  begun = true,
  patienceMs,
}: {
  waits?: boolean;
  begun?: boolean;
  patienceMs?: number;
} = {}) {
  const did: string[] = [];
  const command = new StopSignals((standing) => void did.push(`exit: ${standing}`));
  const run = new StopRequest(command.signals);
  const early = run.early();
  early.catch(() => void did.push('early'));
  const save = async () => void did.push('save');
  if (begun) {
    run.begin({
      save,
      abandon: () => void did.push('abandon'),
      fail: (why) => void did.push(`fail: ${why.message}`),
      waits: () => waits,
      patienceMs,
      onStop: (now) => {
        did.push(now ? 'stop now' : 'stop');
        command.stopping();
      },
    });
    command.begin({
      save: async () => {
        await save();
        return 3;
      },
      standing: () => 'the checkpoint of step 3 stands',
      outputLost() {},
    });
  }
  const send = (signal: NodeJS.Signals) => void process.emit(signal);
  return { command, run, early, did, send };
}

test.each(STOPS)('%s asks for the end, again gives up the step in hand, and again ends the process', (signal) => {
  const { run, did, send } = signals();
  send(signal);
  expect([run.signal.aborted, did]).toEqual([true, ['stop']]);
  send(signal);
  expect(did).toEqual(['stop', 'abandon']);
  send(signal);
  expect(did).toEqual(['stop', 'abandon', 'exit: the checkpoint of step 3 stands']);
});

test.each(SAVES)('%s saves, and the run goes on', (signal) => {
  const { run, did, send } = signals();
  send(signal);
  send(signal);
  expect([run.signal.aborted, did]).toEqual([false, ['save', 'save']]);
});

test('a run gives up at once where nobody computes, and as soon as nobody does', () => {
  const waiting = signals({ waits: true });
  waiting.run.ask();
  expect(waiting.did).toEqual(['stop now', 'abandon']);
  const later = signals();
  later.run.waiting();
  expect(later.did).toEqual([]);
  later.run.ask();
  later.run.waiting();
  expect(later.did).toEqual(['stop', 'abandon']);
});

test('a step that goes on for long after the end was asked for is saved before, and given up where others compute it', () => {
  vi.useFakeTimers();
  const { run, did } = signals({ patienceMs: 30_000 });
  run.ask();
  vi.advanceTimersByTime(2_000);
  expect(did).toEqual(['stop', 'save']);
  vi.advanceTimersByTime(28_000);
  expect(did).toEqual(['stop', 'save', 'abandon']);
  const alone = signals();
  alone.run.ask();
  alone.run.release();
  vi.advanceTimersByTime(60_000);
  expect(alone.did).toEqual(['stop']);
});

test('a run whose step is given up already needs a third signal to end it while it saves', () => {
  const { did, send } = signals({ waits: true });
  send('SIGINT');
  expect(did).toEqual(['stop now', 'abandon']);
  send('SIGINT');
  expect(did).toEqual(['stop now', 'abandon']);
  send('SIGINT');
  expect(did.at(-1)).toMatch(/^exit/);
});

test('after its page has asked for the end, the first signal gives up the step in hand', () => {
  const { run, did, send } = signals();
  run.ask();
  send('SIGINT');
  expect(did).toEqual(['stop', 'abandon']);
});

test.each(['a signal', 'its page'])(
  '%s before the loop begins ends a run at once, and another changes nothing',
  async (who) => {
    const { run, early, did, send } = signals({ begun: false });
    send('SIGUSR1');
    if (who === 'its page') run.ask();
    else send('SIGTERM');
    for (const signal of STOPS) send(signal);
    await expect(early).rejects.toMatchObject({ code: 'LT_RUN_STOPPED' });
    expect(did).toEqual(['early']);
    expect(() => run.begin({} as never)).toThrow(run.signal.reason);
  },
);

test('haste with an error fails the run with it, at whatever time', async () => {
  const why = new LantrainError('LT_CLUSTER_WORKER', 'no worker stays up');
  const haste = new AbortController();
  const early = new StopRequest({ haste: haste.signal });
  const did: string[] = [];
  const begun = new StopRequest({ haste: haste.signal });
  const fail = (error: Error) => void did.push(error.message);
  begun.begin({ fail, save: async () => {}, abandon() {}, waits: () => false, onStop: () => void did.push('stop') });
  haste.abort(why);
  await expect(early.early()).rejects.toBe(why);
  expect(did).toEqual(['no worker stays up']);
});

test('a run that has ended is not killed by one signal more: the process keeps its exit code', () => {
  const { command, run, did, send } = signals();
  run.ask();
  command.release();
  run.release();
  for (const signal of [...STOPS, ...STOPS, ...SAVES]) send(signal);
  expect(did).toEqual(['stop']);
  for (const signal of STOPS) expect(process.listenerCount(signal)).toBeGreaterThan(0);
});
