import { appendFileSync, cpSync, readFileSync, rmSync } from 'node:fs';
import { join as joinPath } from 'node:path';
import { afterAll, expect } from 'vitest';
import { EngineCache } from '../../cluster/worker/engine-cache.js';
import { Worker } from '../../cluster/worker/worker.js';
import type { RunDirectory } from '../../src/checkpoint/run.js';
import { remarkOf } from '../../src/cli/ending.js';
import { Gpu } from '../../src/gpu/device.js';
import { openDawn } from '../../src/node/dawn.js';
import { loadShaders } from '../../src/node/shaders.js';
import { wayBack } from '../../src/run/standing.js';
import { liesFrom } from '../cluster/liar.js';
import { Lantrain, startCoordinator, startWorker } from '../cluster/processes.js';
import { eventsOf } from '../cluster/seeded.js';
import { join } from '../cluster/transport-helpers.js';
import { slowTest } from '../slow.js';
import { SMALL, workFolder } from './run.js';

const folder = workFolder();
afterAll(() => folder.remove());
const at = (...path: string[]) => joinPath(folder.path, ...path);

const markOf = (since: number) =>
  `${JSON.stringify({ event: 'inexact', step: since, worker: 'bob', reason: "the owner's sum is another" })}\n`;

async function train(...args: string[]): Promise<Lantrain> {
  const run = new Lantrain(['train', ...args, '--json'], folder.path);
  await run.ended;
  return run;
}

slowTest(
  'a run that has used what is found wrong keeps its mark over resumes, by train and by coordinator, until it goes back before it',
  async () => {
    const whole = await train(...SMALL, '--steps', '6', '--checkpoint-every', '2', '--out', 'whole');
    expect(await whole.ended, whole.text).toBe(0);
    expect(whole.text).not.toContain('exact');
    expect(await (await train(...SMALL, '--steps', '4', '--checkpoint-every', '2', '--out', 'marked')).ended).toBe(0);
    // One mark before the checkpoint that the run resumes from, one after it.
    appendFileSync(at('marked', 'metrics.jsonl'), markOf(3) + markOf(5).replace('bob', 'eve'));
    cpSync(at('marked'), at('shared'), { recursive: true });

    const marked = await train('--resume', 'marked', '--steps', '6');
    expect(await marked.ended, marked.text).toBe(1);
    expect(marked.digest()).toBe(whole.digest());
    expect(marked.text).toMatch(/^digest {3}[0-9a-f]{64} \(portable\), not exact since step 3$/m);
    expect(marked.text).toMatch(/^inexact {2}not exact since step 3: bob lied or has faulty memory; no checkpoint/m);
    const error = /^error LT_CLUSTER_INEXACT: marked is done, but not exact since step 3: bob lied .*/m;
    expect(marked.text).toMatch(error);
    expect(marked.text).not.toContain('eve');
    expect(readFileSync(at('marked', 'report.html'), 'utf8')).toContain('not exact since step 3: bob lied');

    const { coordinator, url } = await startCoordinator(['--resume', 'shared', '--steps', '6'], folder.path);
    const worker = startWorker(url, 'w', folder.path);
    expect(await coordinator.ended, coordinator.text).toBe(1);
    expect(await worker.ended, worker.text).toBe(0);
    expect(coordinator.digest()).toBe(whole.digest());
    expect(coordinator.text).toMatch(
      /^error LT_CLUSTER_INEXACT: shared is done, but not exact since step 3: bob lied/m,
    );

    // The line for a run that still has an exact checkpoint.
    appendFileSync(at('whole', 'metrics.jsonl'), markOf(5));
    const checkpoints = [4, 6].map((step) => ({ step, path: `whole/checkpoints/00000${step}` }));
    const run = { path: 'whole', list: () => checkpoints } as unknown as RunDirectory;
    const remark = remarkOf(run.path, wayBack(run, { since: 5, workers: ['bob'] }), 'train');
    const way =
      /^not exact .*; to go back to the checkpoint of step 4: remove (\S+), then \S.* (train --resume whole)$/;
    const [, removed, resume] = way.exec(remark) ?? [];
    rmSync(at(removed), { recursive: true });
    const back = await train(...resume.split(' ').slice(1));
    expect(await back.ended, back.text).toBe(0);
    expect(back.digest()).toBe(whole.digest());
    expect(back.text).not.toContain('exact since');
  },
);

slowTest(
  'a worker that is found wrong marks a run to which it has contributed before, under whatever coordinator',
  async () => {
    const options = [...SMALL, '--batch', '8', '--micro-batch', '2'];
    const whole = await train(...options, '--steps', '6', '--out', 'right');
    expect(await whole.ended, whole.text).toBe(0);
    expect(await (await train(...options, '--steps', '2', '--out', 'lied-to')).ended).toBe(0);
    // As noted by an earlier coordinator.
    const contributed = { event: 'contributed', step: 2, person: '127.0.0.1' };
    appendFileSync(at('lied-to', 'metrics.jsonl'), `${JSON.stringify(contributed)}\n`);
    const args = ['--resume', 'lied-to', '--steps', '6', '--audit', '1'];
    const { coordinator, url } = await startCoordinator(args, folder.path);
    const engines = new EngineCache(await Gpu.open(openDawn()), loadShaders());
    const connection = await join(url, {}, false);
    const liar = new Worker(connection, { engines, name: 'liar' });
    liesFrom(1)(connection);
    expect((await liar.run()).code).toBe('LT_CLUSTER_AUDIT');
    engines.gpu.device.destroy();
    const honest = startWorker(url, 'honest', folder.path);
    expect(await coordinator.ended, coordinator.text).toBe(1);
    expect(await honest.ended, honest.text).toBe(0);
    // Nothing that it sent in this start was used, so only earlier contributions may be wrong.
    expect(coordinator.digest()).toBe(whole.digest());
    expect(coordinator.text).toMatch(
      /^error LT_CLUSTER_INEXACT: lied-to is done, but not exact since step 2: liar lied/m,
    );
    expect(coordinator.text).toMatch(/^counters .*audited \d+/m);
    const events = eventsOf(at('lied-to'));
    expect(events.filter(({ event }) => event === 'inexact')).toEqual([
      { event: 'inexact', step: 2, worker: 'liar', reason: expect.stringContaining('has another sum') },
    ]);
  },
);
