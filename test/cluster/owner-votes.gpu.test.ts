import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { ClusterOptions } from '../../cluster/coordinator/options.js';
import type { WorkerMessage } from '../../cluster/protocol/protocol.js';
import { type OwnBitClass, ownBitClass } from '../../cluster/worker/bit-class.js';
import { EngineCache } from '../../cluster/worker/engine-cache.js';
import { Worker } from '../../cluster/worker/worker.js';
import { Gpu } from '../../src/gpu/device.js';
import type { MicroBatch } from '../../src/model/gpt.js';
import type { BatchShape } from '../../src/model/shape.js';
import { openDawn } from '../../src/node/dawn.js';
import { loadShaders } from '../../src/node/shaders.js';
import { Engine, initializeWeights } from '../../src/train/engine.js';
import { sampled } from '../thorough.js';
import { liesFrom, type Tamper } from './liar.js';
import {
  ADAMW,
  allPartsOf,
  closeClusters,
  MICRO_BATCHES,
  MODEL,
  SHAPE as SMALL_SHAPE,
  type SmallCluster,
  smallPlan,
  startCluster,
} from './small-cluster.js';
import { join, until } from './transport-helpers.js';

/*
 * A real coordinator with a real adapter, and real workers, some of which lie or refuse. The test decides what is
 * audited.
 */

const SHAPE: BatchShape = { ...SMALL_SHAPE, dropout: 0.1 };
const LOW = { ...SHAPE, wire: 'low' } as const;
const SEED = 5;
const RATE = 1e-3;
const NONCE = new Uint8Array(32).fill(9);

let gpu: Gpu;
let ownClass: OwnBitClass;
/** One cache for each worker of a test: an engine's build frees everything on its adapter. */
const engineCaches: EngineCache[] = [];

const planOf = () => smallPlan(gpu);

beforeAll(async () => {
  gpu = await Gpu.open(openDawn());
  const probes = await Gpu.open(openDawn());
  ownClass = await ownBitClass(probes, loadShaders(), { model: MODEL, shape: SHAPE, plan: planOf() }, NONCE);
  probes.device.destroy();
  for (let i = 0; i < 3; i++) engineCaches.push(new EngineCache(await Gpu.open(openDawn()), loadShaders()));
}, 120_000);

afterAll(() => {
  for (const engineCache of engineCaches) engineCache.gpu.device.destroy();
  gpu.device.destroy();
});

interface Cluster extends SmallCluster {
  readonly unable: string[];
  /** The person of the next worker. */
  person: string;
}

const working: Worker[] = [];

// Registered before the clusters' hook: hooks run in reverse order.
closeClusters();

afterEach(async () => {
  for (const worker of working) worker.leave('the test is over');
  await Promise.all(working.splice(0).map((worker) => worker.run()));
});

async function cluster(more: Partial<ClusterOptions> = {}): Promise<Cluster> {
  const unable: string[] = [];
  const votes: Partial<ClusterOptions> = {
    shape: SHAPE,
    seed: SEED,
    audit: 1,
    draw: () => 0.5,
    ownClass,
    ownerComputes: true,
  };
  const onOwnerUnable = (reason: string) => void unable.push(reason);
  const test: Cluster = Object.assign(
    await startCluster(gpu, { ...votes, onOwnerUnable, ...more }, (connection) => {
      // Overrides the person: all connections come from this machine.
      Object.defineProperty(connection, 'person', { value: test.person });
    }),
    { unable, person: '' },
  );
  return test;
}

const batchesOf = (step: number): MicroBatch[] =>
  Array.from({ length: MICRO_BATCHES }, (_, i) => ({
    tokens: Uint32Array.from({ length: SHAPE.context }, (_, t) => (7 * i + 3 * t + step) % MODEL.vocabSize),
    targets: Uint32Array.from({ length: SHAPE.context }, (_, t) => (7 * i + 3 * (t + 1) + step) % MODEL.vocabSize),
    firstSlot: i,
  }));

/** A real worker; `tamper` may change what it sends. */
async function startWorker(test: Cluster, name: string, person: string, tamper: Tamper = () => {}): Promise<Worker> {
  const engines = engineCaches[working.length % engineCaches.length];
  test.person = person;
  const connection = await join(test.url, {}, false);
  const worker = new Worker(connection, { engines, name });
  tamper(connection);
  working.push(worker);
  const joins = ({ note, name: joined }: Cluster['notes'][number]) => note === 'join' && joined === name;
  await until(() => test.notes.some(joins), `${name} joins`, 60_000);
  return worker;
}

/** Refuses all its assignments, whatever it computes. */
const refuses: Tamper = (connection) => {
  const send = connection.send.bind(connection);
  connection.sendFrame = async () => {};
  connection.send = (message: WorkerMessage) => {
    if (message.type === 'evaluated') send({ ...message, finite: false });
    else if (message.type !== 'progress') send(message);
    else {
      const { assignment } = message;
      const microBatch = dealt.get(assignment);
      dealt.delete(assignment);
      if (microBatch !== undefined) send({ type: 'refused', assignment, microBatch, what: 'h.0.attn' });
    }
  };
  const dealt = new Map<number, number>();
  const { assign } = connection.onControl;
  connection.onControl = {
    ...connection.onControl,
    assign: (m) => {
      dealt.set(m.assignment, m.microBatches[0].microBatch);
      assign(m);
    },
  };
};

async function train({ engine }: Cluster, from: number, to: number): Promise<void> {
  for (let step = from; step <= to; step++) await engine.step(batchesOf(step), step, SEED, RATE);
}

const references = new Map<string, Promise<Uint32Array[]>>();

/** The state after the same steps in one process. */
function alone(steps: number, more: Partial<ClusterOptions> = {}): Promise<Uint32Array[]> {
  const key = JSON.stringify([steps, more.clip, more.shape]);
  const known = references.get(key);
  if (known !== undefined) return known;
  const computed = (async () => {
    const engine = await Engine.create(gpu, loadShaders(), {
      model: MODEL,
      shape: more.shape ?? SHAPE,
      plan: planOf(),
      adamw: ADAMW,
      clip: more.clip ?? 0,
      microBatches: MICRO_BATCHES,
    });
    initializeWeights(engine, 'gpt2', 1);
    engine.state.start(0, true);
    for (let step = 1; step <= steps; step++) await engine.step(batchesOf(step), step, SEED, RATE);
    return allPartsOf(engine);
  })();
  references.set(key, computed);
  return computed;
}

const closesOf = ({ notes }: Cluster) => notes.flatMap((n) => (n.note === 'leave' ? [`${n.name}: ${n.reason}`] : []));
const marksOf = ({ notes }: Cluster) => notes.flatMap((n) => (n.note === 'inexact' ? [n] : []));
const totalOf = ({ engine }: Cluster) => engine.credits.tally.all.reduce((sum, { tokens }) => sum + tokens, 0);

describe("with the owner's adapter as the deciding vote", () => {
  const kinds = [
    ['float32', {}],
    ['float32, clipping', { clip: 0.05 }],
    ['float16', { shape: { ...SHAPE, precision: 'f16' } }],
    ['the low wire, clipping', { clip: 0.05, shape: LOW }],
    ['the low wire, portable', { shape: { ...LOW, precision: 'portable' } }],
    ['the low wire, float16', { shape: { ...LOW, precision: 'f16' } }],
  ] as const;
  test.each<(typeof kinds)[number]>(sampled(kinds, 3))(
    'an honest worker alone is confirmed, and the state is that of one process: %s',
    async (_name, more) => {
      if ('shape' in more && 'precision' in more.shape && more.shape.precision === 'f16' && !gpu.has('shader-f16'))
        return console.warn('mixed precision is not tested: this adapter has no shader-f16');
      const own = 'shape' in more ? await classOf(more.shape) : ownClass;
      const test = await cluster({ ...more, ownClass: own });
      await test.engine.prepareOwner();
      expect(test.unable).toEqual([]);
      await startWorker(test, 'honest', '10.0.0.1');
      await train(test, 1, 3);
      expect(await allPartsOf(test.engine)).toEqual(await alone(3, more));
      expect(test.engine.counters.audited).toBeGreaterThanOrEqual(3 * (test.engine.owner.buckets.length + 1));
      expect(marksOf(test)).toEqual([]);
      // A confirmer gets no credit.
      expect(test.engine.credits.tally.all.map(({ name }) => name)).toEqual(['honest']);
      expect(totalOf(test)).toBe(3 * MICRO_BATCHES * SHAPE.context);
    },
  );

  const shapes = [
    ['exact', SHAPE],
    ['low', LOW],
  ] as const;
  test.each(shapes)(
    'a worker that lies is found wrong at once where all is checked, and nothing of it is used: wire %s',
    async (_wire, shape) => {
      const test = await cluster({ shape, ownClass: await classOf(shape) });
      await startWorker(test, 'liar', '10.0.0.1', liesFrom(1));
      await startWorker(test, 'honest', '10.0.0.2');
      await train(test, 1, 4);
      expect(await allPartsOf(test.engine)).toEqual(await alone(4, { shape }));
      expect(closesOf(test)).toEqual([expect.stringMatching(/^liar: .*has another sum/)]);
      expect(test.notes.filter(({ note }) => note === 'audit')).not.toEqual([]);
      expect(marksOf(test)).toEqual([]);
      expect(totalOf(test)).toBe(4 * MICRO_BATCHES * SHAPE.context);
    },
  );

  test('a worker that leaves before it is found wrong is named all the same', async () => {
    const test = await cluster();
    const leaves: Tamper = (connection) => {
      liesFrom(1)(connection);
      const send = connection.send.bind(connection);
      connection.send = (message: WorkerMessage) => {
        send(message);
        // All of its sums have been sent.
        if (message.type === 'stats') connection.close();
      };
    };
    await startWorker(test, 'runaway', '10.0.0.1', leaves);
    await startWorker(test, 'honest', '10.0.0.2');
    await train(test, 1, 2);
    expect(await allPartsOf(test.engine)).toEqual(await alone(2));
    const found = test.notes.filter(
      ({ note, ...rest }) => note === 'audit' && /another sum/.test(JSON.stringify(rest)),
    );
    expect(found[0]).toMatchObject({ name: 'runaway' });
  });

  test.each(sampled([1, 2, 3], 3))(
    'two liars of two addresses that agree with each other are caught, or the run is marked: seed %d',
    async (seed) => {
      let drawn = seed;
      const draw = () => {
        drawn = (Math.imul(drawn, 1664525) + 1013904223) >>> 0;
        return drawn / 2 ** 32;
      };
      const test = await cluster({ minWorkers: 3, draw });
      await startWorker(test, 'liar', '10.0.0.1', liesFrom(1));
      await startWorker(test, 'friend', '10.0.0.2', liesFrom(1));
      await startWorker(test, 'honest', '10.0.0.3');
      let steps = 0;
      for (; closesOf(test).length < 2 && steps < 60; steps++) await train(test, steps + 1, steps + 1);
      const closed = closesOf(test).map((line) => line.split(':')[0]);
      expect(closed.sort()).toEqual(['friend', 'liar']);
      const words = (state: readonly Uint32Array[]) => state.map(String).join();
      const isRight = words(await allPartsOf(test.engine)) === words(await alone(steps));
      expect(isRight || marksOf(test).length > 0).toBe(true);
      for (const { since } of marksOf(test)) expect(since).toBe(1);
    },
  );

  test('two connections of one liar are one person: neither confirms the other', async () => {
    const test = await cluster({ minWorkers: 3 });
    await startWorker(test, 'liar', '10.0.0.1', liesFrom(1));
    await startWorker(test, 'twin', '10.0.0.1', liesFrom(1));
    await startWorker(test, 'honest', '10.0.0.2');
    await train(test, 1, 4);
    expect(await allPartsOf(test.engine)).toEqual(await alone(4));
    const closed = closesOf(test).map((line) => line.split(':')[0]);
    expect(closed.sort()).toEqual(['liar', 'twin']);
    expect(marksOf(test)).toEqual([]);
  });

  test.each(sampled(shapes, 2))(
    'what was used unchecked marks the run since the first step that the liar contributed to: wire %s',
    async (_wire, shape) => {
      let isChecking = false;
      const lies: number[] = [];
      const test = await cluster({
        shape,
        ownClass: await classOf(shape),
        audit: 0.5,
        draw: () => (isChecking ? 0.25 : 0.75),
        minWorkers: 2,
      });
      await startWorker(
        test,
        'liar',
        '10.0.0.1',
        liesFrom(3, (step) => lies.push(step)),
      );
      await startWorker(test, 'honest', '10.0.0.2');
      await train(test, 1, 4);
      expect(marksOf(test)).toEqual([]);
      expect(lies).toContain(3);
      isChecking = true;
      await train(test, 5, 7);
      const [mark, ...more] = marksOf(test);
      expect(mark).toMatchObject({ name: 'liar', since: 1 });
      expect(more).toEqual([]);
      expect(test.notes).toContainEqual({ note: 'contributed', person: '10.0.0.1', step: 1 });
      expect(closesOf(test)).toEqual([expect.stringMatching(/^liar: /)]);
      expect(await allPartsOf(test.engine)).not.toEqual(await alone(7, { shape }));
    },
  );

  test('a run is marked also for what an earlier coordinator used of a liar', async () => {
    const test = await cluster({ firstSteps: new Map([['10.0.0.1', 1]]), version: 4 });
    await startWorker(test, 'liar', '10.0.0.1', liesFrom(1));
    await startWorker(test, 'honest', '10.0.0.2');
    await train(test, 5, 6);
    expect(marksOf(test)).toEqual([expect.objectContaining({ name: 'liar', since: 1 })]);
  });

  test('a refusal is no more than a claim: the owner computes it, and who refuses for nothing is sent away', async () => {
    const test = await cluster({ audit: 0, minWorkers: 2 });
    await startWorker(test, 'refuser', '10.0.0.1', refuses);
    await startWorker(test, 'honest', '10.0.0.2');
    let steps = 0;
    // It is dealt work again after a while.
    for (; closesOf(test).length === 0 && steps < 200; await new Promise((go) => setTimeout(go, 50))) {
      steps++;
      await train(test, steps, steps);
    }
    expect(closesOf(test)).toEqual([expect.stringMatching(/^refuser: .*refused/)]);
    expect(test.engine.counters.refuted).toBeGreaterThanOrEqual(2);
    expect(await allPartsOf(test.engine)).toEqual(await alone(steps));
    // Each micro-batch is credited once, no matter how often it was computed.
    expect(totalOf(test)).toBe(steps * MICRO_BATCHES * SHAPE.context);
  });

  test('an evaluation is refused by nobody alone: the owner computes it, and others the rest', async () => {
    const known = await cluster({ audit: 0 });
    await startWorker(known, 'known', '10.0.0.1');
    const mean = await known.engine.evaluate(batchesOf(1), 1);
    const test = await cluster({ audit: 0 });
    await startWorker(test, 'refuser', '10.0.0.2', refuses);
    const evaluated = test.engine.evaluate(batchesOf(1), 1);
    await until(() => closesOf(test).length > 0, 'it is sent away');
    expect(test.engine.counters.refuted).toBe(2);
    await startWorker(test, 'honest', '10.0.0.3');
    expect(await evaluated).toBe(mean);
  });

  test('what is not finite is refused by the owner as well, and the step ends before the state changes', async () => {
    const test = await cluster({ audit: 0 });
    const { weights } = test.engine.state;
    const wte = await weights.read(gpu, 'wte.weight');
    weights.write(gpu, 'wte.weight', wte.fill(Number.NaN));
    const before = await allPartsOf(test.engine);
    await startWorker(test, 'honest', '10.0.0.1');
    await expect(test.engine.step(batchesOf(1), 1, SEED, RATE)).rejects.toMatchObject({ code: 'LT_TRAIN_NONFINITE' });
    expect(await allPartsOf(test.engine)).toEqual(before);
  });

  test("an owner's adapter that fails when the run is over already says nothing", async () => {
    const test = await cluster({ availableBytes: () => 1000 });
    await test.engine.close('done');
    await test.engine.prepareOwner();
    expect(test.unable).toEqual([]);
  });

  test("an owner's adapter without memory says so, and workers of other addresses check each other", async () => {
    const test = await cluster({ availableBytes: () => 1000, minWorkers: 2 });
    await test.engine.prepareOwner();
    expect(test.unable).toEqual([expect.stringMatching(/^computing here as well needs .* there is 1 kB$/)]);
    await startWorker(test, 'one', '10.0.0.1');
    await startWorker(test, 'two', '10.0.0.2');
    await train(test, 1, 2);
    expect(await allPartsOf(test.engine)).toEqual(await alone(2));
    expect(test.engine.counters.audited).toBeGreaterThan(0);
  });

  test("the owner's adapter leaves the state to its readers, and is no obstacle to who gives up", async () => {
    const test = await cluster();
    await startWorker(test, 'honest', '10.0.0.1');
    const step = test.engine.step(batchesOf(1), 1, SEED, RATE);
    let reads = 0;
    let isDone = false;
    const read = async () => {
      while (!isDone) {
        await test.engine.holdState(async () => {
          reads++;
          await new Promise((go) => setTimeout(go, 1));
        });
        await new Promise((go) => setTimeout(go, 1));
      }
    };
    const reading = read();
    await step;
    isDone = true;
    await reading;
    expect(reads).toBeGreaterThan(0);
    expect(await allPartsOf(test.engine)).toEqual(await alone(1));
    const given = test.engine.step(batchesOf(2), 2, SEED, RATE);
    await until(() => test.engine.ownWork.task !== undefined || test.engine.version === 2, 'it computes');
    test.engine.abandon();
    await given.catch(() => {});
    expect(test.engine.ownWork.task).toBeUndefined();
  });
});

const classes = new Map<string, Promise<OwnBitClass>>();

/** The bit class of this adapter for a shape. */
function classOf(shape: BatchShape): Promise<OwnBitClass> {
  const key = JSON.stringify(shape);
  const known = classes.get(key);
  if (known !== undefined) return known;
  const computed = (async () => {
    const device = await Gpu.open(openDawn());
    try {
      return await ownBitClass(device, loadShaders(), { model: MODEL, shape, plan: planOf() }, NONCE);
    } finally {
      device.device.destroy();
    }
  })();
  classes.set(key, computed);
  return computed;
}
