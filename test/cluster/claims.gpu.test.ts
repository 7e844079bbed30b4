import { describe, expect, test } from 'vitest';
import { OWNER_NAME } from '../../cluster/coordinator/members.js';
import { packLoss } from '../../cluster/exchange/blocks.js';
import { encodeFrame } from '../../cluster/protocol/frame.js';
import { onlyFromCoordinator, type WorkerMessage } from '../../cluster/protocol/protocol.js';
import { microBatchSet } from '../../cluster/round/sets.js';
import { bitClassOf, ownBitClass } from '../../cluster/worker/bit-class.js';
import { EngineCache } from '../../cluster/worker/engine-cache.js';
import { Gpu } from '../../src/gpu/device.js';
import { defaultPlan } from '../../src/model/plan.js';
import { openDawn } from '../../src/node/dawn.js';
import { loadShaders } from '../../src/node/shaders.js';
import { batches, type Cluster, cluster, contribute, FakeWorker, type OnAssign, setUpClusters } from './fake-worker.js';
import { CLASS, HASH, MICRO_BATCHES, MODEL, NONCE, SHAPE } from './small-cluster.js';
import { closing, join, until } from './transport-helpers.js';

setUpClusters();

const TOKENS_PER_STEP = MICRO_BATCHES * SHAPE.context;

describe('the bit class that a worker claims', () => {
  test('a bit class is compared whole: a hash that differs in its last digit, or looks alike, is of another class', async () => {
    const test = await cluster();
    const claims = {
      honest: HASH,
      last: { ...HASH, run: `${HASH.run.slice(0, -1)}0` },
      // The readable prefix of the owner's hashes, with other digits after it.
      named: { reference: CLASS.split('-')[0].padEnd(64, '0'), run: CLASS.split('-')[1].padEnd(64, '0') },
      swapped: { reference: HASH.run, run: HASH.reference },
    };
    for (const [name, hash] of Object.entries(claims)) await FakeWorker.join(test, name, undefined, hash);
    await until(() => test.engine.workers.length === 4, 'all join');
    const classes = new Map([...test.engine.members.values()].map(({ name, bitClass }) => [name, bitClass]));
    expect(classes.get('honest')).toBe(CLASS);
    expect(new Set(classes.values()).size).toBe(4);
    for (const name of classes.values()) expect(name).toMatch(/^[0-9a-f]{12}-[0-9a-f]{12,13}$/);
    const mixed = test.notes.flatMap((n) => (n.note === 'mixed' ? [n] : []));
    expect(mixed.map(({ name }) => name).sort()).toEqual(['last', 'named', 'swapped']);
    for (const { name, bitClass } of mixed) expect(bitClass).toBe(classes.get(String(name)));
    for (const { worker, bitClass } of test.engine.workers)
      expect(bitClass === CLASS).toBe(test.engine.members.get(worker)?.name === 'honest');
  });

  test("an exact run refuses another bit class without a word of the owner's hashes", async () => {
    const test = await cluster({ exact: true });
    const other = await FakeWorker.join(test, 'other', undefined, { ...HASH, run: 'd'.repeat(64) });
    const { code, message } = await other.closed;
    expect(code).toBe('LT_CLUSTER_BIT_CLASS');
    const told = `${message} ${JSON.stringify(test.notes)}`;
    expect(told).toContain(CLASS);
    expect(told).not.toMatch(/[0-9a-f]{30}/);
  });

  test("hashes of a bit class are salted by a nonce, the name of the owner's class by none", async () => {
    const device = await Gpu.open(openDawn());
    const shape = { model: MODEL, shape: { ...SHAPE, dropout: 0.1 }, plan: defaultPlan(device.adapter) };
    const nonces = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)];
    const own = [];
    for (const nonce of nonces) own.push(await ownBitClass(device, loadShaders(), shape, nonce));
    expect(own[0].name).toBe(own[1].name);
    for (const probe of ['reference', 'run'] as const) {
      const hashes = own.map(({ salted }) => salted[probe]);
      expect(hashes[0]).toMatch(/^[0-9a-f]{64}$/);
      expect(hashes[0]).not.toBe(hashes[1]);
    }
    for (const { salted, name } of own) expect(bitClassOf(salted)).not.toBe(name);
    device.device.destroy();
    // A worker on this adapter gives the hashes that its owner expects, whatever it was asked before.
    const engineCache = new EngineCache(await Gpu.open(openDawn()), loadShaders());
    await engineCache.get({ ...shape, microBatches: 4 });
    for (const i of [0, 1, 0]) {
      expect(await engineCache.probe('run', nonces[i])).toBe(own[i].salted.run);
      expect(await engineCache.probe('reference', nonces[i])).toBe(own[i].salted.reference);
    }
    engineCache.gpu.device.destroy();
  });

  test('a coordinator asks for a bit class by the nonce of its start', async () => {
    const test = await cluster();
    const connection = await join(test.url, {}, false);
    const probes: unknown[] = [];
    const note = ({ probe, nonce }: { probe: string; nonce: Uint8Array }) =>
      probes.push([probe, Uint8Array.from(nonce)]);
    connection.onControl = onlyFromCoordinator({ welcome: () => {}, probe: note });
    connection.send({ type: 'join', name: 'a', adapter: 'none' });
    await until(() => probes.length === 2, 'both probes');
    expect(probes).toEqual(['reference', 'run'].map((probe) => [probe, NONCE]));
  });
});

describe('who is not admitted', () => {
  const identify = (['reference', 'run'] as const).map(
    (probe): WorkerMessage => ({ type: 'probed', probe, hash: HASH[probe] }),
  );
  const joining: WorkerMessage = { type: 'join', name: 'hasty', adapter: 'none' };

  test.each([
    ['joins twice', [joining, joining]],
    ['gives a hash twice', [joining, identify[0], identify[0]]],
    ['gives a hash again when it is admitted', [joining, ...identify, identify[1]]],
    ['gives hashes before it joins', [identify[0]]],
    ['is ready', [joining, { type: 'ready' }]],
    ['lacks buckets', [joining, { type: 'mismatch', buckets: [0] }]],
    ['makes progress', [joining, identify[0], { type: 'progress', assignment: 1, begun: 1, done: 0 }]],
    ['hands back', [joining, { type: 'handed-back', assignment: 1, microBatches: [0] }]],
    ['refuses', [joining, { type: 'refused', assignment: 1, microBatch: 0, what: 'x' }]],
    ['has evaluated', [{ type: 'evaluated', assignment: 1, microBatches: [0], low: 0, high: 0, finite: true }]],
  ] as [string, WorkerMessage[]][])('a newcomer that %s is closed, the others train on', async (_what, messages) => {
    const test = await cluster();
    await FakeWorker.join(test, 'honest', contribute(test));
    await until(() => test.engine.workers.length === 1, 'the honest one joins');
    const connection = await join(test.url, {}, false);
    const closed = closing(connection);
    const ignore = () => {};
    connection.onControl = onlyFromCoordinator({ welcome: ignore, probe: ignore, admit: ignore });
    for (const message of messages) connection.send(message);
    // The connection also counts messages that may be sent only once.
    expect((await closed).code).toMatch(/^LT_CLUSTER_(MALFORMED|LIMIT)$/);
    expect((await test.engine.step(batches(), 1, 1, 1e-3)).loss).toBe(0);
    expect(test.engine.workers).toHaveLength(1);
  });

  test('a newcomer that is not admitted contributes nothing', async () => {
    const test = await cluster();
    const connection = await join(test.url, {}, false);
    const closed = closing(connection);
    connection.onControl = onlyFromCoordinator({ welcome: () => {}, probe: () => {} });
    connection.send(joining);
    await connection.sendFrame(frameOf(test, 1, 1)).catch(() => {});
    expect((await closed).code).toBe('LT_CLUSTER_MALFORMED');
    expect(test.engine.counters.stale).toBe(0);
  });
});

function frameOf({ engine }: Cluster, assignment: number, step: number): Uint8Array {
  const microBatches = microBatchSet(Array(MICRO_BATCHES).keys());
  const bucket = engine.owner.buckets.length;
  return encodeFrame(
    { kind: 'contribution', incarnation: 1, assignment, step, bucket, microBatches },
    packLoss(2n ** 50n),
  );
}

describe('answers of another kind than was asked for', () => {
  test('a worker that answers an evaluation by a frame is closed', async () => {
    const test = await cluster({ version: 3 });
    const liar = await FakeWorker.join(test, 'liar');
    await until(() => test.engine.workers.length === 1, 'it joins');
    liar.connection.onControl = {
      ...liar.connection.onControl,
      evaluate: ({ assignment, version }) =>
        void liar.connection.sendFrame(frameOf(test, assignment, version)).catch(() => {}),
    };
    const mean = test.engine.evaluate(batches(), MICRO_BATCHES);
    expect((await liar.closed).code).toBe('LT_CLUSTER_IMPOSSIBLE');
    await FakeWorker.join(test, 'honest');
    expect(await mean).toBe(2 ** -20);
  });

  test('a worker that answers a step by an evaluation is closed', async () => {
    const test = await cluster();
    const lie: OnAssign = (worker, { assignment }) =>
      worker.say({ type: 'evaluated', assignment, microBatches: [0], low: 1, high: 1, finite: true });
    const liar = await FakeWorker.join(test, 'liar', lie);
    const step = test.engine.step(batches(), 1, 1, 1e-3);
    expect((await liar.closed).code).toBe('LT_CLUSTER_IMPOSSIBLE');
    await FakeWorker.join(test, 'honest', contribute(test));
    expect((await step).loss).toBe(0);
  });
});

describe('credit', () => {
  test('credit is for micro-batches that were dealt and came back, each once, not for what a worker says of itself', async () => {
    const test = await cluster({ minWorkers: 2 });
    const { engine } = test;
    const boast: OnAssign = (worker, message) => {
      contribute(test)(worker, message);
      for (let i = 0; i < 3; i++)
        worker.say({ type: 'stats', computeMs: 1e12, uploadMs: 1e12, downloadMs: 1, waitMs: 1 });
    };
    const began = performance.now();
    await FakeWorker.join(test, 'modest', contribute(test));
    await FakeWorker.join(test, 'boaster', boast);
    const steps = 3;
    for (let step = 1; step <= steps; step++) await engine.step(batches(), step, 1, 1e-3);
    const elapsedMs = performance.now() - began;
    const { all } = engine.credits.tally;
    expect(all.reduce((sum, { tokens }) => sum + tokens, 0)).toBe(steps * TOKENS_PER_STEP);
    for (const { name, tokens, computeMs } of all) {
      const member = [...engine.members.values()].find((one) => one.name === name);
      expect(member?.totals.tokens).toBe(tokens);
      expect(computeMs).toBeGreaterThan(0);
      expect(computeMs).toBeLessThan(elapsedMs);
    }
    const [boaster] = [...engine.members.values()].filter(({ name }) => name === 'boaster');
    const { computeMs, uploadMs, downloadMs, waitMs } = boaster.totals;
    expect(computeMs + uploadMs + downloadMs + waitMs).toBeLessThan(elapsedMs);
  });

  test('credit stays with a worker that has left before the step was complete', async () => {
    const test = await cluster({ minWorkers: 2 });
    const { engine } = test;
    let isDone = false;
    await FakeWorker.join(test, 'brief', (worker, message) => {
      contribute(test)(worker, message);
      isDone = true;
    });
    let isLate = true;
    let late: () => void = () => {};
    await FakeWorker.join(test, 'late', (worker, message) => {
      late = () => contribute(test)(worker, message);
      if (!isLate) late();
    });
    const step = engine.step(batches(), 1, 1, 1e-3);
    const [brief] = [...engine.members.values()].filter(({ name }) => name === 'brief');
    await until(() => isDone && engine.counters.accepted > engine.owner.buckets.length, 'its share is there');
    brief.connection.close();
    await until(() => engine.members.size === 1, 'it has left');
    isLate = false;
    late();
    await step;
    const { all } = engine.credits.tally;
    expect(all.map(({ name }) => name).sort()).toEqual(['brief', 'late']);
    expect(all.reduce((sum, { tokens }) => sum + tokens, 0)).toBe(TOKENS_PER_STEP);
  });

  test("nobody is called as the owner's adapter is", async () => {
    const test = await cluster();
    const names = [
      OWNER_NAME.toUpperCase(),
      OWNER_NAME.replace(' ', '\u00a0'),
      `${OWNER_NAME}\ufe0f`,
      'the\u200downer.',
    ];
    for (const name of names) await FakeWorker.join(test, name);
    await until(() => test.engine.workers.length === names.length, 'they join');
    for (const { name } of test.engine.members.values()) expect(name).toMatch(/^worker \d+$/);
  });
});
