import { beforeAll, describe, expect, test } from 'vitest';
import { WorkerClasses } from '../../cluster/coordinator/worker-class.js';
import { ownBitClass, PORTABLE_CLASS, type ProbedClass } from '../../cluster/worker/bit-class.js';
import { EngineCache } from '../../cluster/worker/engine-cache.js';
import type { WorkerNote } from '../../cluster/worker/options.js';
import { Worker } from '../../cluster/worker/worker.js';
import { Gpu } from '../../src/gpu/device.js';
import type { ShaderTexts } from '../../src/gpu/kernel.js';
import { defaultPlan, withKeptSums } from '../../src/model/plan.js';
import { openDawn } from '../../src/node/dawn.js';
import { loadShaders } from '../../src/node/shaders.js';
import { planted, wrongFast } from '../check/planted.js';
import { slowTest } from '../slow.js';
import { sampled } from '../thorough.js';
import { closeClusters, MICRO_BATCHES, MODEL, NONCE, SHAPE, startCluster } from './small-cluster.js';
import { join, until } from './transport-helpers.js';

closeClusters();

const PORTABLE = { ...SHAPE, dropout: 0.1, precision: 'portable' } as const;

let gpu: Gpu;
let own: ProbedClass;

const wrongGelu = () => planted('gelu_portable', 'GELU_CUBIC = 0.102943242', 'GELU_CUBIC = 0.11');
/** Only evaluation has this: no probe computes it. */
const wrongLoss = () =>
  planted('cross_entropy', 'losses[row] = rowLoss(row, s); }\n}', 'losses[row] = rowLoss(row, s) * 1.001; }\n}');

beforeAll(async () => {
  gpu = await Gpu.open(openDawn());
  own = await classBy(loadShaders());
});

function wanted() {
  return { model: MODEL, shape: PORTABLE, plan: defaultPlan(gpu.adapter) };
}

async function classBy(shaders: ShaderTexts): Promise<ProbedClass> {
  const device = await Gpu.open(openDawn());
  const found = await ownBitClass(device, shaders, wanted(), NONCE);
  device.device.destroy();
  return found;
}

/** Hashes that a worker with these shaders answers. */
async function answers(shaders: ShaderTexts) {
  const engines = new EngineCache(await Gpu.open(openDawn()), shaders);
  await engines.get({ ...wanted(), microBatches: MICRO_BATCHES });
  const hashes = { reference: await engines.probe('reference', NONCE), run: await engines.probe('run', NONCE) };
  engines.gpu.device.destroy();
  return { ...hashes, portability: engines.portability };
}

describe('the bit class of a portable run', () => {
  test('has a name that says so, and the adapter is of it that computes the same', async () => {
    expect(own).toMatchObject({ name: PORTABLE_CLASS, plan: defaultPlan(gpu.adapter) });
    expect(own.remark).toBeUndefined();
    const classes = new WorkerClasses(own);
    expect(classes.of(await answers(loadShaders()))).toEqual({ key: 'portable', name: 'portable' });
  });

  slowTest('is that of an adapter too that must keep its sums in order, as worker and as owner', async () => {
    const worker = await answers(wrongFast());
    expect(worker.portability?.plan).toEqual(withKeptSums(defaultPlan(gpu.adapter)));
    expect(new WorkerClasses(own).of(worker).name).toBe('portable');
    const owner = await classBy(wrongFast());
    expect(owner).toMatchObject({ name: PORTABLE_CLASS, salted: own.salted });
    expect(owner.remark).toMatch(/^sums are kept in order here, which is slower: linear /);
  });

  test('is another one where an operation differs, also one that no probe computes', async () => {
    for (const shaders of sampled([wrongLoss(), wrongGelu()], 2)) {
      const worker = await answers(shaders);
      expect(worker.portability?.mismatch).toBeDefined();
      expect(new WorkerClasses(own).of(worker).name).toMatch(/^[0-9a-f]{12}-[0-9a-f]{12}$/);
      const owner = await classBy(shaders);
      expect(owner.name).toMatch(/^[0-9a-f]{12}-[0-9a-f]{12}$/);
      expect(owner.remark).toMatch(/does not compute portable arithmetic, so it is a bit class of its own: /);
      // A worker that differs in the same way is of its class.
      expect(new WorkerClasses(owner).of(worker).name).toBe(owner.name);
    }
  });
});

test('an exact portable run refuses a worker with a wrong kernel before it has a share, and takes one with kept sums', async () => {
  const { plan, remark: _, ...ownClass } = own;
  const cluster = await startCluster(gpu, { exact: true, shape: PORTABLE, plan, ownClass });
  const notes: WorkerNote[] = [];
  const devices: Gpu[] = [];
  const enter = async (shaders: ShaderTexts) => {
    const device = await Gpu.open(openDawn());
    devices.push(device);
    const engines = new EngineCache(device, shaders);
    const connection = await join(cluster.url, {}, false);
    return new Worker(connection, { engines, name: 'worker', onNote: (note) => void notes.push(note) });
  };
  const wrong = await (await enter(wrongGelu())).run();
  expect(wrong.code).toBe('LT_CLUSTER_BIT_CLASS');
  expect(wrong.message).toContain('portable');
  expect(notes).toContainEqual({ note: 'not-portable', difference: expect.stringMatching(/^linear .*storeGelu/) });
  expect(cluster.engine.workers).toEqual([]);
  const kept = await enter(wrongFast());
  // It compiles two sets of kernels.
  await until(() => cluster.engine.workers.length === 1, 'the other joins', 120_000);
  expect(cluster.engine.workers[0].bitClass).toBe('portable');
  expect(notes.map(({ note }) => note)).toContain('kept-sums');
  kept.leave('over');
  await kept.run();
  for (const { device } of devices) device.destroy();
});
