import { spawn } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { join as joinPath, resolve } from 'node:path';
import { afterAll, describe, expect, test, vi } from 'vitest';
import type { ClusterOptions } from '../../cluster/coordinator/options.js';
import { onlyFromCoordinator, type Welcome } from '../../cluster/protocol/protocol.js';
import { EngineCache } from '../../cluster/worker/engine-cache.js';
import { Gpu } from '../../src/gpu/device.js';
import { memoryBudget } from '../../src/model/activations.js';
import { defaultPlan } from '../../src/model/plan.js';
import { WIRES, type Wire } from '../../src/model/wire.js';
import { openDawn } from '../../src/node/dawn.js';
import { loadShaders } from '../../src/node/shaders.js';
import { StepAbandoned } from '../../src/train/engine.js';
import { SMALL, workFolder } from '../cli/run.js';
import { slowTest } from '../slow.js';
import {
  batches,
  type Cluster,
  cluster,
  contribute,
  contributeInParts,
  FakeWorker,
  gpu,
  refuse,
  setUpClusters,
} from './fake-worker.js';
import { allPartsOf, HASH, NONCE, SHAPE } from './small-cluster.js';
import { join, until } from './transport-helpers.js';

setUpClusters();

const wired = (wire: Wire, more: Partial<ClusterOptions> = {}) => cluster({ shape: { ...SHAPE, wire }, ...more });

/** Counts updated and packed buckets. */
function updates({ engine: { owner } }: Cluster): { count: number } {
  const seen = { count: 0 };
  const pack = owner.pack.bind(owner);
  owner.pack = async (...args) => {
    const packed = await pack(...args);
    seen.count++;
    return packed;
  };
  return seen;
}

describe("the coordinator's shell", () => {
  test('a coordinator that itself slept fences nobody off for that time', async () => {
    const test = await cluster({ minWorkers: 2 });
    for (const name of ['a', 'b']) await FakeWorker.join(test, name);
    const step = test.engine.step(batches(), 1, 1, 1e-3);
    step.catch(() => {});
    await until(() => test.engine.workers.every(({ assigned }) => assigned > 0), 'both have work');
    const now = performance.now.bind(performance);
    const clock = vi.spyOn(performance, 'now').mockImplementation(() => now() + 60_000);
    try {
      await new Promise((go) => setTimeout(go, 700));
      expect(test.notes.filter(({ note }) => note === 'fence')).toEqual([]);
      expect(test.engine.workers.map(({ fenced }) => fenced)).toEqual([false, false]);
    } finally {
      clock.mockRestore();
    }
  });

  test('a newcomer gets its weights while workers of another address take none of theirs', async () => {
    const test = await cluster();
    const admit = test.engine.admit.bind(test.engine);
    let asked = 0;
    test.engine.admit = (connection) => {
      const never = () => {
        asked++;
        return new Promise<void>(() => {});
      };
      admit(Object.assign(connection, { person: '10.0.0.1', sendFrame: never }));
    };
    for (let i = 0; i < 16; i++) await FakeWorker.join(test, `reads nothing ${i}`);
    await until(() => test.engine.workers.length === 16 && asked >= 8, 'they are sent what they may be sent');
    test.engine.admit = admit;
    const good = await FakeWorker.join(test, 'good');
    await until(() => good.frames.length === test.engine.owner.buckets.length, 'it gets every bucket');
  });

  test('a micro-batch that two workers refuse stops the run, and no later step hangs', async () => {
    const test = await cluster({ minWorkers: 2 });
    await FakeWorker.join(test, 'a', refuse);
    await FakeWorker.join(test, 'b', refuse);
    const message = /^step 1: micro-batch \d \(wte \[2J \.weight\) is not finite/;
    await expect(test.engine.step(batches(), 1, 1, 1e-3)).rejects.toMatchObject({
      code: 'LT_TRAIN_NONFINITE',
      message: expect.stringMatching(message),
    });
    await expect(test.engine.step(batches(), 1, 1, 1e-3)).rejects.toMatchObject({ code: 'LT_TRAIN_NONFINITE' });
    await expect(test.engine.evaluate(batches(), 1)).rejects.toMatchObject({ code: 'LT_TRAIN_NONFINITE' });
  });

  test('another bit class is refused where exactness is asked for, and marks the run mixed where it is not', async () => {
    const other = { ...HASH, run: 'c'.repeat(64) };
    const exact = await cluster({ exact: true });
    const refused = await FakeWorker.join(exact, 'other', undefined, other);
    const { code, message } = await refused.closed;
    expect(code).toBe('LT_CLUSTER_BIT_CLASS');
    expect(message).not.toContain('\n');
    expect(exact.notes).toContainEqual(expect.objectContaining({ note: 'refuse', name: 'other' }));
    expect(exact.engine.workers).toHaveLength(0);

    const mixed = await cluster();
    await FakeWorker.join(mixed, 'other', undefined, other);
    await until(() => mixed.engine.workers.length === 1, 'the worker joins');
    expect(mixed.notes).toContainEqual(expect.objectContaining({ note: 'mixed', name: 'other' }));
  });

  test('workers that leave are named, whoever ends the connection, and forgotten', async () => {
    const test = await cluster();
    const polite = await FakeWorker.join(test, 'polite');
    const liar = await FakeWorker.join(test, 'li\u0007ar');
    await until(() => test.engine.workers.length === 2, 'both join');
    polite.say({ type: 'leave', reason: 'it was stopped' });
    liar.say({ type: 'progress', assignment: 99, begun: 1, done: 0 });
    expect((await liar.closed).code).toBe('LT_CLUSTER_IMPOSSIBLE');
    await until(() => test.engine.members.size === 0, 'both are forgotten');
    const leaves = test.notes.filter((n) => n.note === 'leave').map((n) => n.name);
    expect(leaves.sort()).toEqual(['li ar', 'polite']);
  });

  test('a step that nobody computes can be abandoned', async () => {
    const test = await cluster();
    const step = test.engine.step(batches(), 1, 1, 1e-3);
    await until(() => test.notes.some((n) => n.note === 'waiting'), 'it waits');
    test.engine.abandon();
    await expect(step).rejects.toBeInstanceOf(StepAbandoned);
  });

  test.each(WIRES)(
    'the state before a step is held while some buckets are updated and others miss, in the %s wire',
    async (wire) => {
      const undisturbed = await wired(wire);
      const quick = contributeInParts(undisturbed);
      await FakeWorker.join(undisturbed, 'a', (...args) => {
        quick.onAssign(...args);
        quick.rest();
      });
      await undisturbed.engine.step(batches(), 1, 1, 1e-3);
      const outcome = await undisturbed.engine.step(batches(), 2, 1, 1e-3);

      const test = await wired(wire);
      const { engine } = test;
      const { onAssign, rest } = contributeInParts(test);
      await FakeWorker.join(test, 'a', onAssign);
      await engine.step(batches(), 1, 1, 1e-3);
      const before = await allPartsOf(engine);
      const updated = updates(test);
      const step = engine.step(batches(), 2, 1, 1e-3);
      await until(() => updated.count === 1, 'the first bucket is updated');
      expect(await allPartsOf(engine)).not.toEqual(before);
      await engine.holdState(async () => {
        expect(await allPartsOf(engine)).toEqual(before);
        // Contributions that arrive meanwhile wait.
        rest();
        await new Promise((go) => setTimeout(go, 100));
        expect(await allPartsOf(engine)).toEqual(before);
        expect(engine.version).toBe(1);
      });
      expect(await step).toEqual(outcome);
      expect(engine.version).toBe(2);
      expect(await allPartsOf(engine)).toEqual(await allPartsOf(undisturbed.engine));
    },
  );

  test.each(WIRES)(
    'a step abandoned while buckets miss leaves the state before it, though others are updated, in the %s wire',
    async (wire) => {
      const test = await wired(wire);
      const { engine } = test;
      await FakeWorker.join(test, 'a', contributeInParts(test).onAssign);
      await engine.step(batches(), 1, 1, 1e-3);
      const before = await allPartsOf(engine);
      const updated = updates(test);
      const step = engine.step(batches(), 2, 1, 1e-3);
      await until(() => updated.count === 1, 'the first bucket is updated');
      engine.abandon();
      await expect(step).rejects.toBeInstanceOf(StepAbandoned);
      expect(engine.version).toBe(1);
      expect(await engine.holdState(() => allPartsOf(engine))).toEqual(before);
      await expect(engine.step(batches(), 2, 1, 1e-3)).rejects.toBeInstanceOf(StepAbandoned);
    },
  );

  test.each(WIRES.flatMap((wire) => [0, 0.5].map((clip) => [clip, wire] as const)))(
    'a step whose sums are complete is finished when it is abandoned, with clipping at %d, in the %s wire',
    async (clip, wire) => {
      const test = await wired(wire, { clip });
      const { engine } = test;
      let release: () => void = () => {};
      const held = new Promise<void>((go) => {
        release = go;
      });
      let packing = 0;
      const pack = engine.owner.pack.bind(engine.owner);
      engine.owner.pack = async (...args) => {
        packing++;
        await held;
        return pack(...args);
      };
      await FakeWorker.join(test, 'a', contribute(test));
      const step = engine.step(batches(), 1, 1, 1e-3);
      const why = new Error('no worker stays up');
      await until(() => packing === engine.owner.buckets.length, 'all buckets are updated');
      engine.abandon(why);
      release();
      expect((await step).loss).toBe(0);
      expect(engine.version).toBe(1);
      await expect(engine.step(batches(), 2, 1, 1e-3)).rejects.toBe(why);
    },
  );

  test.each(WIRES)(
    'a failure while the update waits for a reader locks no later reader out, in the %s wire',
    async (wire) => {
      let isFull = false;
      const test = await wired(wire, {
        clip: 0.5,
        onNote: () => {
          if (isFull) throw new Error('no space left');
        },
      });
      const { engine } = test;
      let norms = 0;
      const readSquares = engine.owner.readSquares.bind(engine.owner);
      engine.owner.readSquares = () => {
        norms++;
        return readSquares();
      };
      const before = await allPartsOf(engine);
      await FakeWorker.join(test, 'a', contribute(test));
      await engine.holdState(async () => {
        const step = engine.step(batches(), 1, 1, 1e-3);
        step.catch(() => undefined);
        await until(() => engine.counters.accepted > engine.owner.buckets.length, 'the sums are there');
        await until(() => test.server.pool.freeBytes === test.server.pool.totalBytes, 'they are complete');
        expect(norms, 'the update has not begun').toBe(0);
        isFull = true;
        await FakeWorker.join(test, 'late');
        await expect(step).rejects.toThrow('no space left');
      });
      expect(await engine.holdState(() => allPartsOf(engine))).toEqual(before);
    },
  );

  test.each(WIRES)('a bucket is sent whole before the difference that builds on it, in the %s wire', async (wire) => {
    const test = await wired(wire);
    const { engine, notes } = test;
    await FakeWorker.join(test, 'a', contribute(test));
    await until(() => engine.workers.some((w) => w.ready), 'the first worker is ready');
    const read = engine.owner.readWeights.bind(engine.owner);
    engine.owner.readWeights = async (...args) => {
      await new Promise((go) => setTimeout(go, 100));
      return read(...args);
    };
    const late = await FakeWorker.join(test, 'late', contribute(test));
    await until(() => notes.filter((n) => n.note === 'join').length === 2, 'the late worker joins');
    for (const step of [1, 2]) await engine.step(batches(), step, 1, 1e-3);
    const buckets = engine.owner.buckets.length;
    expect(buckets).toBeGreaterThan(1);
    const last = () => late.frames.filter((f) => f.header.step === 2).length;
    await until(() => last() === buckets, 'it has all weights');
    const versions = engine.owner.buckets.map(() => -1);
    for (const { header } of late.frames) {
      if (header.kind === 'contribution') throw new Error('a contribution came down');
      if (header.kind === 'weights-difference') expect(versions[header.bucket]).toBeGreaterThanOrEqual(header.base);
      versions[header.bucket] = Math.max(versions[header.bucket], header.step);
    }
    expect(versions).toEqual(versions.map(() => 2));
  });

  test('the coordinator hands its shaders, exactly, to a worker without any and to nobody else', async () => {
    const test = await cluster();
    const own = await FakeWorker.join(test, 'own');
    await until(() => own.welcome !== undefined, 'the welcome');
    expect(own.welcome?.shaders).toBeUndefined();
    const connection = await join(test.url, {}, false);
    const welcome = new Promise<Welcome>((resolve) => {
      connection.onControl = onlyFromCoordinator({ welcome: resolve, probe: () => {}, admit: () => {} });
    });
    connection.send({ type: 'join', name: 'tab', adapter: 'none', lacksShaders: true });
    expect((await welcome).shaders).toEqual(loadShaders());
  });

  test('lists of any length are evaluated in parts', async () => {
    const test = await cluster();
    await FakeWorker.join(test, 'a');
    const count = 1100;
    expect(await test.engine.evaluate(batches(count), count)).toBe(2 ** -20);
  });

  test('a committed step is told of a failed adapter, and what it held is freed', async () => {
    const test = await cluster();
    await FakeWorker.join(test, 'a', contribute(test));
    test.engine.owner.readSquares = () => Promise.reject(new Error('the adapter is gone'));
    await expect(test.engine.step(batches(), 1, 1, 1e-3)).rejects.toThrow('the adapter is gone');
    await until(() => test.server.pool.freeBytes === test.server.pool.totalBytes, 'all credit is back');
  });

  test('all credit is back when a worker vanishes while it sends', async () => {
    const test = await cluster();
    const step = test.engine.step(batches(), 1, 1, 1e-3);
    await FakeWorker.join(test, 'a', (worker, message) => {
      contribute(test)(worker, message);
      setTimeout(() => worker.connection.close(), 5);
    });
    await until(() => test.notes.some((n) => n.note === 'leave'), 'it is gone');
    await until(() => test.server.pool.freeBytes === test.server.pool.totalBytes, 'all credit is back');
    await FakeWorker.join(test, 'b', contribute(test));
    expect((await step).loss).toBe(0);
  });
});

slowTest("a worker's engine outlives its connection, and another shape takes its place", async () => {
  const engineCache = new EngineCache(await Gpu.open(openDawn()), loadShaders());
  // The model of `SMALL`: compiling another one takes a minute if the driver's cache is empty.
  const model = { vocabSize: 256, context: 16, width: 32, layers: 2, heads: 2, tie: true, qkvBias: true };
  const one = { batch: 2, context: 16, dropout: 0 };
  const shape = { model, shape: one, plan: defaultPlan(gpu.adapter), microBatches: 1 };
  const first = await engineCache.get(shape);
  const hash = await engineCache.probe('run', NONCE);
  const bytes = engineCache.gpu.memory.allocatedBytes;
  expect(await engineCache.get(structuredClone(shape))).toBe(first);
  expect(await engineCache.probe('run', NONCE)).toBe(hash);
  expect(engineCache.gpu.memory.allocatedBytes).toBe(bytes);
  const recomputing = new EngineCache(await Gpu.open(openDawn()), loadShaders(), { recompute: true });
  await recomputing.get(shape);
  expect(await recomputing.probe('run', NONCE)).toBe(hash);
  expect(recomputing.gpu.memory.allocatedBytes).toBeLessThan(bytes);
  recomputing.gpu.device.destroy();
  const ifNeeded = async (availableBytes: number) => {
    const own = new EngineCache(await Gpu.open(openDawn()), loadShaders(), {
      recompute: 'if-needed',
      availableBytes: () => availableBytes,
    });
    await own.get(shape);
    await own.probe('run', NONCE);
    own.gpu.device.destroy();
    return own.gpu.memory.allocatedBytes;
  };
  const { stateBytes, activationBytes } = memoryBudget(model, shape.shape, shape.plan);
  const needed = 0.6 * stateBytes + activationBytes;
  expect(await ifNeeded(needed)).toBe(bytes);
  expect(await ifNeeded(needed - 1)).toBe(recomputing.gpu.memory.allocatedBytes);

  const other = await engineCache.get({ ...shape, shape: { ...shape.shape, dropout: 0.1 } });
  expect(other).not.toBe(first);
  await engineCache.get(shape);
  expect(await engineCache.probe('run', NONCE)).toBe(hash);
  expect(engineCache.gpu.memory.allocatedBytes).toBe(bytes);
  const without = new EngineCache(engineCache.gpu);
  await expect(without.get(shape)).rejects.toMatchObject({ code: 'LT_CLUSTER_MALFORMED' });
  const shaders = loadShaders();
  const sent = await without.get({ ...shape, shaders });
  expect(await without.get({ ...shape, shaders: { ...shaders } })).toBe(sent);
  expect(await without.probe('run', NONCE)).toBe(hash);
  const others = { ...shaders, gelu: `${shaders.gelu}\n` };
  expect(await without.get({ ...shape, shaders: others }), 'other shaders').not.toBe(sent);
  engineCache.gpu.device.destroy();
});

test('a worker whose adapter has too little memory says so, and whether --recompute would do', async () => {
  const model = { vocabSize: 256, context: 64, width: 128, layers: 8, heads: 4, tie: true, qkvBias: true };
  const plan = defaultPlan(gpu.adapter);
  const refusal = async (availableBytes: number) => {
    const engineCache = new EngineCache(await Gpu.open(openDawn()), loadShaders(), {
      availableBytes: () => availableBytes,
    });
    const shape = { batch: 8, context: 64, dropout: 0 };
    const error = await engineCache.get({ model, shape, plan, microBatches: 1 }).catch((e) => e);
    engineCache.gpu.device.destroy();
    return error;
  };
  const [few, some] = [await refusal(1e6), await refusal(50e6)];
  expect(few).toMatchObject({ code: 'LT_GPU_MEMORY', message: expect.stringMatching(/needs \d+ MB.*is 1 MB$/) });
  expect(some).toMatchObject({ code: 'LT_GPU_MEMORY', message: expect.stringMatching(/worker --recompute fits/) });
});

describe('lantrain coordinator', () => {
  const work = workFolder();
  afterAll(() => work.remove());

  /** Runs a coordinator until it listens, kills it, and returns its output. */
  function untilJoinable(...args: string[]): Promise<string> {
    return new Promise((done, fail) => {
      const main = resolve('dist/src/cli/main.js');
      const child = spawn(process.execPath, [main, 'coordinator', '--listen', '127.0.0.1:0', ...args], {
        cwd: work.path,
      });
      let text = '';
      const see = (data: Buffer) => {
        text += data;
        if (/^join .*$/m.test(text)) child.kill('SIGKILL');
      };
      child.stdout.on('data', see);
      child.stderr.on('data', see);
      child.on('error', fail);
      child.on('close', () => done(text));
    });
  }

  slowTest('a coordinator keeps its join URL over a crash, for its owner only, and out of the metrics', async () => {
    const urlOf = (text: string) => {
      const [, token, begin, fingerprint] = /LANTRAIN_TOKEN=(\S+) .* worker (wss:[^#]+#)(\S+)/.exec(text) ?? [];
      return `${begin}${token}${fingerprint}`;
    };
    const url = urlOf(await untilJoinable(...SMALL, '--steps', '5', '--out', 'run'));
    expect(url).toMatch(/^wss:\/\/127\.0\.0\.1:\d+\/#[\w-]{32}\.[\w-]{43}$/);
    expect(urlOf(await untilJoinable('--resume', 'run'))).toBe(url);
    const folder = joinPath(work.path, 'run', 'cluster');
    expect(readFileSync(joinPath(folder, 'incarnation'), 'utf8')).toBe('2\n');
    expect(statSync(folder).mode & 0o077).toBe(0);
    for (const file of ['token', 'key.pem', 'certificate.pem', 'port'])
      expect(statSync(joinPath(folder, file)).mode & 0o077).toBe(0);
    const token = readFileSync(joinPath(folder, 'token'), 'utf8');
    expect(readFileSync(joinPath(work.path, 'run', 'config.json'), 'utf8')).not.toContain(token);
  });
});
