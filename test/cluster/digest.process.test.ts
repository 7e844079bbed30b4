import { afterAll, describe, expect, test } from 'vitest';
import { SMALL, workFolder } from '../cli/run.js';
import { slowTest } from '../slow.js';
import { Lantrain, lossesOf, partOf, startCoordinator, startWorker } from './processes.js';

const folder = workFolder();
afterAll(() => folder.remove());

/** Eight micro-batches a step, so that three workers get unequal numbers. */
const BASE = [...SMALL, '--batch', '8', '--micro-batch', '1', '--steps', '9'];

async function alone(name: string, options: readonly string[]) {
  const run = new Lantrain(['train', ...options, '--out', name, '--json'], folder.path);
  expect(await run.ended, run.text).toBe(0);
  return run;
}

/** One worker for each entry of `drags`: its delay in milliseconds per micro-batch. */
async function together(name: string, options: readonly string[], drags: readonly number[]) {
  const args = [...options, '--out', name, '--min-workers', String(drags.length)];
  const { coordinator, url } = await startCoordinator(args, folder.path);
  const workers = drags.map((drag, i) => startWorker(url, `w${i}`, folder.path, '--drag', String(drag)));
  expect(await coordinator.ended, coordinator.text).toBe(0);
  for (const worker of workers) expect(await worker.ended, worker.text).toBe(0);
  return coordinator;
}

async function holds(
  name: string,
  options: readonly string[],
  ...clusters: (readonly number[])[]
): Promise<Lantrain[]> {
  const single = await alone(`${name}-alone`, options);
  expect(single.digest()).toMatch(/^[0-9a-f]{64}$/);
  const runs: Lantrain[] = [];
  for (const drags of clusters) {
    const run = await together(`${name}-${runs.length}`, options, drags);
    expect(lossesOf(run.events), `${drags.length} workers`).toEqual(lossesOf(single.events));
    expect(run.digest(), `${drags.length} workers`).toBe(single.digest());
    for (const i of drags.keys()) expect(partOf(run, `w${i}`), `tokens of worker ${i}: ${run.text}`).toBeGreaterThan(0);
    runs.push(run);
  }
  return runs;
}

describe('the digest and the losses of a coordinator and its workers', () => {
  slowTest('one, two and three workers give the digest and losses of one process: tied head, dropout', async () => {
    await holds('tied', [...BASE, '--tie', '--dropout', '0.1'], [0], [0, 0], [0, 0, 0]);
  });

  test('shares that differ by speed give the digest and losses of one process: untied head, dropout, clipping', async () => {
    const [run] = await holds('slow', [...BASE, '--no-tie', '--dropout', '0.1', '--clip', '0.5'], [0, 60]);
    expect(partOf(run, 'w1')).toBeLessThan(partOf(run, 'w0'));
  });

  test('the low wire: stacks of one and of eight, a resumed run, unequal shares and a killed worker end alike', async () => {
    const options = [...BASE, '--wire', 'low', '--no-tie', '--dropout', '0.1', '--clip', '0.5'];
    const [run] = await holds('low', options, [0, 60]);
    for (const stack of ['1', '8'])
      expect((await alone(`low-stack-${stack}`, [...options, '--stack', stack])).digest()).toBe(run.digest());
    await alone('low-resumed', [...options, '--steps', '4']);
    const resumed = new Lantrain(['train', '--resume', 'low-resumed', '--steps', '9', '--json'], folder.path);
    expect(await resumed.ended, resumed.text).toBe(0);
    expect(resumed.digest()).toBe(run.digest());
    const workers: Lantrain[] = [];
    const { coordinator, url } = await startCoordinator([...options, '--out', 'low-killed'], folder.path, (event) => {
      if (event.event === 'step' && event.step === 3) workers[0].signal('SIGKILL');
    });
    for (const name of ['killed', 'lives']) workers.push(startWorker(url, name, folder.path, '--drag', '40'));
    expect(await coordinator.ended, coordinator.text).toBe(0);
    expect(coordinator.events).toContainEqual(expect.objectContaining({ event: 'leave', worker: 'killed' }));
    expect(coordinator.digest()).toBe(run.digest());
  });

  slowTest('the low wire: one, two and three workers end as one process: tied head, no clipping', async () => {
    await holds('low-tied', [...BASE, '--wire', 'low', '--tie', '--dropout', '0.1'], [0], [0, 0], [0, 0, 0]);
  });

  slowTest.each(['exact', 'low'])(
    'several buckets give the digest and losses of one process: vocabulary of GPT-2, clipping, cosine schedule, wire %s',
    async (wire) => {
      const schedule = ['--schedule', 'cosine', '--warmup', '2', '--clip', '1'];
      const text = ['--tokenizer', 'gpt2', '--no-tie', '--val-ratio', '0.3', '--batch', '4', '--steps', '4'];
      await holds(`buckets-${wire}`, [...BASE, ...schedule, ...text, '--wire', wire], [0, 0]);
    },
  );
});
