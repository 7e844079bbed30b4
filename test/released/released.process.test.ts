import { cpSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { lantrain, workFolder } from '../cli/run.js';
import { startCoordinator, startWorker } from '../cluster/processes.js';
import { slowTest } from '../slow.js';
import { IS_THOROUGH } from '../thorough.js';

/**
 * Runs that released versions stopped after step 5 of 10, with dropout, clipping and a cosine schedule, and the digest
 * after step 10 that the same version ended with, resumed or not. Every later version goes on with them to that digest.
 */
const RELEASED = {
  '0.1.0': {
    'train-f32': '5e6b7789bf20cd0f33c061f4e64e824a19016cb3275f16568cc31e5fa74f5e2f',
    'train-f16': '53a8e4c25a2deb34b724e82dd99b5e58c1c036160cd3b6229fc6edcc02d7380f',
    'coordinator-f32': '5e6b7789bf20cd0f33c061f4e64e824a19016cb3275f16568cc31e5fa74f5e2f',
  },
} as const;

const folder = workFolder();
afterAll(() => folder.remove());

/** A copy of a released run, which lies beside its text as it did when it began. */
function copyOf(version: string, name: string, as = name): void {
  const from = join(import.meta.dirname, version);
  cpSync(join(from, name), join(folder.path, as), { recursive: true });
  cpSync(join(from, 'text.txt'), join(folder.path, 'text.txt'));
}

describe.each(Object.entries(RELEASED))('runs of %s', (version, runs) => {
  const always = Object.entries(runs).filter(([name]) => IS_THOROUGH || name === 'train-f32');
  test.for(always)('the released run %s goes on to its digest', async ([name, digest], { skip }) => {
    copyOf(version, name);
    const { code, stderr, events } = await lantrain(['train', '--resume', name, '--json'], { cwd: folder.path });
    expect(code, stderr).toBe(0);
    const { adapter } = JSON.parse(readFileSync(join(folder.path, name, 'config.json'), 'utf8'));
    if (stderr.includes(`this run began on ${adapter}`))
      skip(`the saved bits were read; those of the steps after them are of ${adapter}, and this adapter's may be others`);
    expect(events.at(-1)).toMatchObject({ event: 'done', step: 10, digest });
  });

  slowTest("a coordinator's run goes on as a coordinator, and its checkpoint of step 5 stays", async () => {
    copyOf(version, 'coordinator-f32', 'again');
    const { coordinator, url } = await startCoordinator(['--resume', 'again'], folder.path);
    const worker = startWorker(url, 'w', folder.path);
    expect(await coordinator.ended, coordinator.text).toBe(0);
    expect(await worker.ended, worker.text).toBe(0);
    if (!coordinator.text.includes('this run began on')) expect(coordinator.digest()).toBe(runs['coordinator-f32']);
    expect(readdirSync(join(folder.path, 'again', 'checkpoints')).sort()).toEqual(['000005', '000010']);
  });
});
