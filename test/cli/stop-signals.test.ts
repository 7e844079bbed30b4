import { afterEach, expect, test, vi } from 'vitest';
import { StopSignals } from '../../src/cli/stop-signals.js';

const STOPS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
const SAVES = ['SIGUSR1', 'SIGUSR2'] as const;

afterEach(() => {
  for (const signal of [...STOPS, ...SAVES]) process.removeAllListeners(signal);
  vi.restoreAllMocks();
});

/** A run whose signals are the test's. */
function signals({ waits = false, begun = true } = {}) {
  const said: string[] = [];
  const reporter = { start() {}, event() {}, note: (line: string) => void said.push(line), stop() {} };
  const did: string[] = [];
  const stop = new StopSignals(reporter, () => void did.push('early'));
  if (begun)
    stop.watch({
      save: async () => void did.push('save'),
      abandon: () => void did.push('abandon'),
      waits: () => waits,
      onStop: () => void did.push('stop'),
      standing: () => 'the checkpoint of step 3 stands',
    });
  const send = (signal: NodeJS.Signals) => void process.emit(signal);
  return { stop, did, said, send };
}

test.each(STOPS)('%s asks for the end, again gives up the step in hand, and again ends the process', (signal) => {
  const { stop, did, send } = signals();
  const exit = vi.spyOn(process, 'exit').mockReturnValue(undefined as never);
  const write = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  send(signal);
  expect([stop.requested, did]).toEqual([true, ['stop']]);
  send(signal);
  expect(did).toEqual(['stop', 'abandon']);
  expect(exit).not.toHaveBeenCalled();
  send(signal);
  expect(exit).toHaveBeenCalledWith(130);
  expect(write).toHaveBeenCalledWith('stopped at once; the checkpoint of step 3 stands\n');
});

test.each(SAVES)('%s saves, and the run goes on', (signal) => {
  const { stop, did, send } = signals();
  send(signal);
  send(signal);
  expect([stop.requested, did]).toEqual([false, ['save', 'save']]);
});

test('gives up at once where nobody computes, and as soon as nobody does', () => {
  const waiting = signals({ waits: true });
  waiting.stop.ask();
  expect(waiting.did).toEqual(['stop', 'abandon']);
  process.removeAllListeners('SIGINT');
  const later = signals();
  later.stop.waiting();
  expect(later.did).toEqual([]);
  later.stop.ask();
  later.stop.waiting();
  expect(later.did).toEqual(['stop', 'abandon']);
});

test('whose step is given up already needs a third signal to end it while it saves', () => {
  const { did, said, send } = signals({ waits: true });
  const exit = vi.spyOn(process, 'exit').mockReturnValue(undefined as never);
  vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  send('SIGINT');
  expect(said).toEqual(['stopping now, as nobody computes, with a checkpoint (Ctrl-C again: at once)']);
  send('SIGINT');
  expect(did).toEqual(['stop', 'abandon']);
  expect(exit).not.toHaveBeenCalled();
  send('SIGINT');
  expect(exit).toHaveBeenCalledWith(130);
});

test('before the loop begins whoever asks for the end gets it, a page as well', () => {
  const { stop, did, send } = signals({ begun: false });
  send('SIGTERM');
  stop.ask();
  send('SIGUSR1');
  expect(did).toEqual(['early', 'early']);
});

test('a run that has ended is not killed by one signal more: the process keeps its exit code', () => {
  const { stop, did, send } = signals();
  const exit = vi.spyOn(process, 'exit').mockReturnValue(undefined as never);
  stop.ask();
  stop.release();
  for (const signal of [...STOPS, ...STOPS, ...SAVES]) send(signal);
  expect(did).toEqual(['stop']);
  expect(exit).not.toHaveBeenCalled();
  for (const signal of STOPS) expect(process.listenerCount(signal)).toBeGreaterThan(0);
});
