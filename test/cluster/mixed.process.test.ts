import { afterAll, describe, expect, test } from 'vitest';
import { SMALL, workFolder } from '../cli/run.js';
import { slowTest } from '../slow.js';
import { NEEDS_SWIFTSHADER, swiftShaderEnvironment, swiftShaderIcd } from '../swiftshader.js';
import { Lantrain, lossesOf, partOf, startCoordinator, startWorker } from './processes.js';

/*
 * Two drivers that compute different bits in float32 as they see it: the machine's own, and SwiftShader. SwiftShader's subgroups of 4 cannot run
 * the plan of a coordinator on lavapipe.
 */

const folder = workFolder();
afterAll(() => folder.remove());

const SWIFT = swiftShaderEnvironment();
const OPTIONS = [...SMALL, '--precision', 'f32', '--batch', '4', '--micro-batch', '1', '--steps', '8', '--lr', '3e-3'];
const CLASS = /^bit class ([0-9a-f]{12}-[0-9a-f]{12})/;

const startSwift = (url: string, name: string) => {
  return new Lantrain(['worker', url, '--name', name], folder.path, undefined, SWIFT);
};

describe.skipIf(swiftShaderIcd() === undefined)(`workers of another bit class ${NEEDS_SWIFTSHADER}`, () => {
  test('workers of another bit class train along by their own kernels, and the run is marked mixed', async () => {
    const args = [...OPTIONS, '--out', 'mixed', '--min-workers', '2'];
    const { coordinator, url } = await startCoordinator(args, folder.path);
    const swift = startSwift(url, 'swift');
    // Slowed down, so that the other one gets work.
    const own = startWorker(url, 'own', folder.path, '--drag', '100');
    expect(await coordinator.ended, coordinator.text).toBe(0);
    for (const worker of [swift, own]) expect(await worker.ended, worker.text).toBe(0);

    for (const name of ['swift', 'own']) expect(partOf(coordinator, name), coordinator.text).toBeGreaterThan(0);
    const classOf = (name: string) => {
      const join = coordinator.events.find((e) => e.event === 'join' && e.worker === name);
      return CLASS.exec(String(join?.reason))?.[1];
    };
    const mixed = coordinator.events.filter((e) => e.event === 'mixed');
    expect(mixed).toEqual([expect.objectContaining({ worker: 'swift', reason: expect.stringMatching(CLASS) })]);
    expect(classOf('swift')).not.toBe(classOf('own'));
    expect(mixed[0].reason).toContain(`bit class ${classOf('swift')}, the owner's is ${classOf('own')}`);
    expect(coordinator.text).toContain('the digest is not exact');

    // Other bits, the same model: the losses equal those of one process except for rounding.
    const alone = new Lantrain(['train', ...OPTIONS, '--out', 'alone', '--json'], folder.path);
    expect(await alone.ended, alone.text).toBe(0);
    const losses = (run: Lantrain) => run.events.filter((e) => e.event === 'step').map((e) => Number(e.loss));
    const [got, want] = [losses(coordinator), losses(alone)];
    expect(got).toHaveLength(8);
    for (const [i, loss] of got.entries()) expect(loss).toBeCloseTo(want[i], 4);
    expect(got[7]).toBeLessThan(got[0] - 0.1);
  });

  slowTest('workers of another bit class are refused by an exact run, which goes on with the others', async () => {
    const { coordinator, url } = await startCoordinator([...OPTIONS, '--out', 'exact', '--exact'], folder.path);
    const swift = startSwift(url, 'swift');
    expect(await swift.ended, swift.text).toBe(1);
    expect(swift.text).toMatch(/LT_CLUSTER_BIT_CLASS.*its bit class \S+ is not the owner's, \S+$/m);
    const own = startWorker(url, 'own', folder.path);
    expect(await coordinator.ended, coordinator.text).toBe(0);
    expect(await own.ended, own.text).toBe(0);
    const refused = coordinator.events.filter((e) => e.event === 'refuse');
    expect(refused).toEqual([expect.objectContaining({ worker: 'swift' })]);
    expect(coordinator.events.map((e) => e.event)).not.toContain('mixed');
    expect(partOf(coordinator, 'own'), coordinator.text).toBe(100);
  });

  slowTest('workers on SwiftShader whose coordinator is on it as well give one digest, as exact as any', async () => {
    const options = [...OPTIONS, '--steps', '3', '--val-ratio', '0'];
    const alone = new Lantrain(['train', ...options, '--out', 'swift-alone', '--json'], folder.path, undefined, SWIFT);
    const args = [...options, '--out', 'swift', '--exact'];
    const { coordinator, url } = await startCoordinator(args, folder.path, undefined, SWIFT);
    const worker = startSwift(url, 'swift');
    expect(await coordinator.ended, coordinator.text).toBe(0);
    expect(await worker.ended, worker.text).toBe(0);
    expect(await alone.ended, alone.text).toBe(0);
    expect(coordinator.digest()).toMatch(/^[0-9a-f]{64}$/);
    expect(coordinator.digest()).toBe(alone.digest());
    expect(lossesOf(coordinator.events)).toEqual(lossesOf(alone.events));
  });
});
