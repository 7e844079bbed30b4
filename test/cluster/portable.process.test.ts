import { afterAll, describe, expect, test } from 'vitest';
import { SMALL, workFolder } from '../cli/run.js';
import { slowTest } from '../slow.js';
import { NEEDS_SWIFTSHADER, swiftShaderEnvironment, swiftShaderIcd } from '../swiftshader.js';
import { type Event, Lantrain, lossesOf, partOf, startCoordinator, startWorker } from './processes.js';

/*
 * Portable arithmetic, the default: one digest on drivers that share no code, Mesa's lavapipe and SwiftShader, alone and in
 * one run. The digests are the same on every adapter (docs/determinism.md).
 */

const folder = workFolder();
afterAll(() => folder.remove());

const SWIFT = swiftShaderEnvironment();

/** Ten steps of the preset `tiny`. */
const TINY = ['--preset', 'tiny', '--steps', '10', '--eval-every', '0', '--sample-tokens', '0'];
const TINY_DIGEST = '877af8795eb6a255d496b9a43c00f9be93ef8efcdf5e7e6ea427ecdbfa9576b9';

/** Heads of 7 values and sequences of 17: rows begin inside vec4s, and no vector is full. */
const ODD = [
  ...SMALL,
  ...[
    '--layers',
    '2',
    '--width',
    '35',
    '--heads',
    '5',
    '--context',
    '17',
    '--tie',
    '--dropout',
    '0.1',
    '--clip',
    '0.5',
  ],
  ...['--batch', '6', '--micro-batch', '1', '--steps', '8', '--schedule', 'cosine', '--warmup', '3', '--lr', '3e-3'],
];
const ODD_DIGEST = '6c5fad369b364bd0fcc3405fa210cd409d6d73d0a13dd5e82171aa96a7fe37d8';

const EXACT = ['--wire', 'exact'];
/** The same in the low wire. */
const LOW = ['--wire', 'low'];
const TINY_LOW_DIGEST = '90d8194a6f81a57933cd43e84cdc7b082cefcfa49aedf640db322ad7812148cf';
const ODD_LOW_DIGEST = 'df0eec0b3c161828adb6c1f21a62ee8d0246e1f0b0560443137da123fbbdb57d';

async function alone(name: string, options: readonly string[], environment?: Readonly<Record<string, string>>) {
  const run = new Lantrain(['train', ...options, '--out', name, '--json'], folder.path, undefined, environment);
  expect(await run.ended, run.text).toBe(0);
  return run;
}

function startSwift(url: string, name: string): Lantrain {
  return new Lantrain(['worker', url, '--name', name], folder.path, undefined, SWIFT);
}

/** A coordinator with a worker of each driver and a third that is killed in a step; all must compute. */
async function mixed(name: string, options: readonly string[], environment?: Readonly<Record<string, string>>) {
  const workers: Lantrain[] = [];
  const onEvent = ({ event, step }: Event) => {
    if (event === 'step' && step === 3) workers.at(-1)?.signal('SIGKILL');
  };
  const args = [...options, '--out', name, '--min-workers', '3', '--exact'];
  const { coordinator, url } = await startCoordinator(args, folder.path, onEvent, environment);
  workers.push(startSwift(url, 'swift'));
  for (const own of ['own', 'killed']) workers.push(startWorker(url, own, folder.path, '--drag', '100'));
  expect(await coordinator.ended, coordinator.text).toBe(0);
  for (const worker of workers.slice(0, 2)) expect(await worker.ended, worker.text).toBe(0);
  for (const worker of ['swift', 'own']) expect(partOf(coordinator, worker), coordinator.text).toBeGreaterThan(0);
  expect(coordinator.events.filter(({ event }) => event === 'mixed')).toEqual([]);
  expect(coordinator.events).toContainEqual(expect.objectContaining({ event: 'leave', worker: 'killed' }));
  return coordinator;
}

test('ten steps of the preset tiny end with the digest that every adapter gives', async () => {
  expect((await alone('tiny', [...TINY, ...EXACT])).digest()).toBe(TINY_DIGEST);
  expect((await alone('tiny-low', [...TINY, ...LOW])).digest()).toBe(TINY_LOW_DIGEST);
});

describe.skipIf(swiftShaderIcd() === undefined)(`drivers that share no code ${NEEDS_SWIFTSHADER}`, () => {
  test('workers of two drivers, one of which is killed, end with the digest and losses of one process', async () => {
    const single = await alone('odd-low', [...ODD, ...LOW]);
    expect(single.digest()).toBe(ODD_LOW_DIGEST);
    const run = await mixed('odd-low-mixed', [...ODD, ...LOW]);
    expect(run.digest()).toBe(ODD_LOW_DIGEST);
    expect(lossesOf(run.events)).toEqual(lossesOf(single.events));
  });

  slowTest('so they do in the exact wire', async () => {
    expect((await alone('odd', [...ODD, ...EXACT])).digest()).toBe(ODD_DIGEST);
    expect((await mixed('odd-mixed', [...ODD, ...EXACT])).digest()).toBe(ODD_DIGEST);
  });

  slowTest('a coordinator on the other driver ends with the same digest, and so does one process on it', async () => {
    expect((await mixed('odd-swift', [...ODD, ...EXACT], SWIFT)).digest()).toBe(ODD_DIGEST);
    expect((await mixed('odd-low-swift', [...ODD, ...LOW], SWIFT)).digest()).toBe(ODD_LOW_DIGEST);
    expect((await alone('odd-low-alone', [...ODD, ...LOW], SWIFT)).digest()).toBe(ODD_LOW_DIGEST);
    expect((await alone('tiny-swift', [...TINY, ...EXACT], SWIFT)).digest()).toBe(TINY_DIGEST);
    expect((await alone('tiny-low-swift', [...TINY, ...LOW], SWIFT)).digest()).toBe(TINY_LOW_DIGEST);
  });
});
