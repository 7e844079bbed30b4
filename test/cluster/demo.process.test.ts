import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, expect, test, vi } from 'vitest';
import { demo } from '../../cluster/demo.js';
import type { RunEvent } from '../../src/run/events.js';
import { openRun } from '../../src/run/open-run.js';
import { failure } from '../checkpoint/helpers.js';
import { workFolder } from '../cli/run.js';
import { slowTest } from '../slow.js';

const folder = workFolder();
let output = '';
beforeEach(() => {
  output = '';
  for (const name of ['stdout', 'stderr'] as const)
    vi.spyOn(process[name], 'write').mockImplementation((text) => {
      output += String(text);
      return true;
    });
});
afterEach(() => void vi.restoreAllMocks());
afterAll(() => folder.remove());

const request = (out: string, steps: number) => ({
  data: join(folder.path, 'text.txt'),
  tokenizer: 'bytes' as const,
  ...{ layers: 1, width: 32, heads: 2, context: 16, batch: 4, microBatch: 2, evalEvery: 0, sampleTokens: 0, steps },
  out: join(folder.path, out),
});

const listeners = () => process.eventNames().map((name) => [name, process.listenerCount(name)]);

test('workers of this machine compute a run for a host program, which is told of it and left as it was', async () => {
  const before = listeners();
  const events: RunEvent[] = [];
  const onEvent = (event: RunEvent) => void events.push(event);
  const { complete, digest, path } = await demo({ ...request('run', 3), workers: 1 }, { onEvent });
  expect(complete).toBe(true);
  expect(output).toBe('');
  expect(listeners()).toEqual(before);
  expect(events.flatMap((event) => (event.event === 'join' ? [event.worker] : []))).toEqual(['a']);
  const run = await openRun(path);
  expect(run.end()).toEqual({ state: 'done' });
  expect(run.checkpoints().at(-1)).toMatchObject({ step: 3, digest });
});

slowTest('a worker that cannot start is told of each time, and the run fails when none stays up', async () => {
  const notes: string[] = [];
  const onEvent = (event: RunEvent) => void (event.event === 'note' && notes.push(event.text));
  // A child process inherits this: Node does not start with an unknown option.
  vi.stubEnv('NODE_OPTIONS', '--no-such-option');
  const why = await failure('LT_CLUSTER_WORKER', () => demo({ ...request('none', 3), workers: 1 }, { onEvent }));
  vi.unstubAllEnvs();
  expect(why).toMatch(/^no worker stays up: .*--no-such-option/);
  const falls = notes.filter((text) => text.startsWith('worker a fell: '));
  expect(falls).toHaveLength(5);
  expect(falls[4]).toMatch(/; it is not started again$/);
});

test('a number of workers that there cannot be is refused', async () => {
  for (const workers of [0, 1.5, 65])
    await failure('LT_USAGE_OPTION', () => demo({ ...request('refused', 3), workers }));
});
