import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { EngineCache } from '../../cluster/worker/engine-cache.js';
import { Worker } from '../../cluster/worker/worker.js';
import { type CoordinateRequest, coordinate, LantrainError, type RunEvent, train } from '../../src/index.js';
import { openGpu } from '../../src/node/open-gpu.js';
import { loadShaders } from '../../src/node/shaders.js';
import { readMetrics } from '../../src/report/metrics.js';
import { failure } from '../checkpoint/helpers.js';
import { workFolder } from '../cli/run.js';
import { TINY_RUN, undisturbedHost, watched } from '../run/host.js';
import { slowTest } from '../slow.js';
import { join as joinCluster } from './transport-helpers.js';

const folder = workFolder();
afterAll(() => folder.remove());
const at = (name: string) => join(folder.path, name);
const metricsOf = (name: string) => readMetrics(join(at(name), 'metrics.jsonl'));

const STEPS = 6;
const data = at('text.txt');
const OPTIONS: CoordinateRequest = { ...TINY_RUN, data, steps: STEPS, listen: '127.0.0.1:0', plain: true };
undisturbedHost();

/** A worker in this process; resolves with the error that ended it. */
async function work(url: string, name: string): Promise<LantrainError> {
  const engines = new EngineCache(await openGpu(), loadShaders());
  try {
    return await new Worker(await joinCluster(url, {}, false), { engines, name }).run();
  } finally {
    engines.gpu.device.destroy();
  }
}

/** Starts a worker as soon as a run reports where to join. */
function worked(name: string) {
  const ends: Promise<LantrainError>[] = [];
  const onEvent = (event: RunEvent) => {
    if (event.event === 'listening') ends.push(work(event.localUrl, name));
  };
  return { ends, onEvent };
}

test('workers compute the digest of one process; the run tells where they join and what they did', async () => {
  const { ends, onEvent } = worked('ann');
  const { events, hooks } = watched(undefined, { onEvent });
  const result = await coordinate({ ...OPTIONS, out: at('shared') }, hooks);
  expect((await Promise.all(ends)).map(({ code }) => code)).toEqual(['LT_CLUSTER_DONE']);
  expect(result).toMatchObject({ step: STEPS, complete: true });
  expect((await train({ ...TINY_RUN, data, steps: STEPS, out: at('alone') })).digest).toBe(result.digest);

  const kinds = events.map(({ event }) => event).filter((kind) => kind !== 'note' && kind !== 'progress');
  const first = (kind: (typeof kinds)[number]) => kinds.indexOf(kind);
  expect(kinds.slice(0, 3)).toEqual(['listening', 'watch', 'begin']);
  expect(first('join')).toBeLessThan(first('step'));
  expect(kinds.filter((kind) => kind === 'step').length).toBe(STEPS);
  // Events for the run's files are delivered as well.
  expect(kinds).toEqual(expect.arrayContaining(['contributed', 'workers']));
  expect(kinds.at(-1)).toBe('end');
  const end = events.at(-1);
  const tokens = STEPS * 4 * 16;
  expect(end).toMatchObject({ ...result, cluster: { mixed: false, workers: [{ name: 'ann', tokens }] } });
  // A step that waits for a worker does not count as the run's time.
  const waits = events.flatMap((event) => (event.event === 'standstill' ? [event.begins] : []));
  expect(waits).toEqual([true, false]);
  const told = new Set<string>([
    'note',
    'progress',
    'listening',
    'watch',
    'begin',
    'phase',
    'standstill',
    'end',
    'throughput',
  ]);
  expect(metricsOf('shared')).toEqual(events.filter(({ event }) => !told.has(event)));
});

slowTest(
  'an abort while nobody computes ends a run at once; the run that goes on ends with the same digest',
  async () => {
    const stop = new AbortController();
    const { events, hooks } = watched(undefined, {
      signal: stop.signal,
      onEvent: (event) => {
        if (event.event === 'standstill') stop.abort();
      },
    });
    const stopped = await coordinate({ ...OPTIONS, out: at('waits') }, hooks);
    expect(stopped).toMatchObject({ step: 0, complete: false });
    expect(events).toContainEqual({ event: 'stopping', now: true });
    const { ends, onEvent } = worked('bob');
    const { events: later, hooks: again } = watched(undefined, { onEvent });
    const { listen, plain } = OPTIONS;
    const resumed = await coordinate({ resume: at('waits'), listen, plain }, again);
    await Promise.all(ends);
    expect(later).toContainEqual({ event: 'resume', step: 0, reason: 'incarnation 2' });
    expect(resumed).toMatchObject({
      complete: true,
      digest: metricsOf('shared').find((e) => e.event === 'done')?.digest,
    });
  },
);

test('haste with an error fails a run with it, and what does not fit is refused before anything is written', async () => {
  const haste = new AbortController();
  const why = new LantrainError('LT_CLUSTER_WORKER', 'no worker stays up');
  const { hooks } = watched(undefined, {
    haste: haste.signal,
    onEvent: (event) => {
      if (event.event === 'standstill') haste.abort(why);
    },
  });
  expect(await failure('LT_CLUSTER_WORKER', () => coordinate({ ...OPTIONS, out: at('failed') }, hooks))).toBe(
    'no worker stays up; no step was done yet',
  );
  expect(metricsOf('failed').at(-1)).toEqual({ event: 'failed', step: 0, reason: 'no worker stays up' });

  const refused = (request: CoordinateRequest) =>
    failure('LT_USAGE_OPTION', () => coordinate({ ...OPTIONS, out: at('refused'), ...request }));
  expect(await refused({ audit: 2 })).toBe('--audit 2 must be at most 1');
  expect(await refused({ minWorkers: 0 })).toMatch(/^--min-workers 0 must be at least 1/);
  expect(await refused({ listen: 'here' })).toMatch(/^--listen here is not HOST:PORT/);
  expect(existsSync(at('refused'))).toBe(false);
});
