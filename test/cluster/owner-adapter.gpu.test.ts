import { createHash } from 'node:crypto';
import { beforeAll, describe, expect, test } from 'vitest';
import type { ClusterOptions } from '../../cluster/coordinator/options.js';
import { OwnerAdapter, type OwnTask, type OwnTaskHost } from '../../cluster/coordinator/owner-adapter.js';
import type { ContributionHeader, Frame } from '../../cluster/protocol/frame.js';
import { idsOf } from '../../cluster/round/sets.js';
import { EngineCache } from '../../cluster/worker/engine-cache.js';
import { Worker } from '../../cluster/worker/worker.js';
import { Gpu } from '../../src/gpu/device.js';
import { memoryBudget, ownerBudget } from '../../src/model/activations.js';
import type { MicroBatch } from '../../src/model/gpt.js';
import type { BatchShape } from '../../src/model/shape.js';
import { WIRES } from '../../src/model/wire.js';
import { openDawn } from '../../src/node/dawn.js';
import { loadShaders } from '../../src/node/shaders.js';
import { sampled } from '../thorough.js';
import {
  closeClusters,
  MICRO_BATCHES,
  MODEL as SMALL_MODEL,
  SHAPE as SMALL_SHAPE,
  type SmallCluster,
  smallOptions,
  startCluster,
} from './small-cluster.js';
import { join } from './transport-helpers.js';

const MODEL = { ...SMALL_MODEL, layers: 2 };
const SHAPE: BatchShape = { ...SMALL_SHAPE, dropout: 0.1 };

let gpu: Gpu;
let workerGpu: Gpu;

beforeAll(async () => {
  gpu = await Gpu.open(openDawn());
  // A worker frees everything on its adapter before it builds an engine.
  workerGpu = await Gpu.open(openDawn());
});

closeClusters();

function optionsOf(more: Partial<ClusterOptions> = {}): ClusterOptions {
  return smallOptions(gpu, { model: MODEL, shape: SHAPE, seed: 5, incarnation: 3, ...more });
}

/** In the low wire the grid is as coarse as in the middle of a run. */
async function cluster(more: Partial<ClusterOptions> = {}): Promise<SmallCluster> {
  const test = await startCluster(gpu, optionsOf(more));
  const { state, layout } = test.engine;
  if (more.shape?.wire !== 'low') return test;
  for (const [i, { name, size }] of layout.parameters.entries())
    state.v.write(gpu, name, new Float32Array(size).fill(1e-7 * 4 ** -(i % 5)));
  state.start(100, false);
  return test;
}

const BATCHES: MicroBatch[] = Array.from({ length: MICRO_BATCHES }, (_, i) => ({
  tokens: Uint32Array.from({ length: SHAPE.context }, (_, t) => (7 * i + 3 * t) % MODEL.vocabSize),
  targets: Uint32Array.from({ length: SHAPE.context }, (_, t) => (7 * i + 3 * (t + 1)) % MODEL.vocabSize),
  firstSlot: i,
}));

const some = (microBatches: Iterable<number>) => new Map([...microBatches].map((m) => [m, BATCHES[m]] as const));

/** Records what the owner's adapter reports. */
class Notes implements OwnTaskHost {
  readonly frames: Frame[] = [];
  readonly told: unknown[] = [];
  #done: () => void = () => {};
  /** The current version of the weights. */
  version = 0;

  /** Called before each micro-batch. */
  onWork: () => void = () => {};

  async withWeights<T>(version: number, work: () => Promise<T>): Promise<T | undefined> {
    this.onWork();
    return version === this.version ? work() : undefined;
  }
  async contributed(task: OwnTask, frame: Frame): Promise<void> {
    this.frames.push(frame);
    if (this.frames.length === task.buckets.length) this.#done();
  }
  evaluated(_task: OwnTask, losses: bigint): void {
    this.#say(['evaluated', losses]);
  }
  refused(_task: OwnTask, microBatches: readonly number[], what: string): void {
    this.#say(['refused', microBatches, what]);
  }
  unable(reason: string): void {
    this.#say(['unable', reason]);
  }
  #say(what: unknown): void {
    this.told.push(what);
    this.#done();
  }
  /** Resolves when a task is done. */
  next(): Promise<void> {
    return new Promise((done) => {
      this.#done = done;
    });
  }
}

/** A worker as in a process of its own. */
async function startWorker(url: string): Promise<Worker> {
  const engines = new EngineCache(workerGpu, loadShaders());
  return new Worker(await join(url, {}, false), { engines, name: 'worker' });
}

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
const digestsOf = (frames: readonly Frame[]) => new Map(frames.map((f) => [f.header.bucket, sha256(f.payload)]));

/** What a worker contributed to each bucket of step 1, by set of micro-batches. */
async function contributionsOfWorker(more: Partial<ClusterOptions>, exponent?: number) {
  const { engine, url } = await cluster(more);
  if (exponent !== undefined) engine.lossScale = { exponent, goodSteps: 0 };
  const seen = new Map<string, { readonly microBatches: number[]; readonly payloads: Map<number, string> }>();
  const worker = await startWorker(url);
  const member = [...engine.members.values()][0];
  const onFrame = member.connection.onFrame;
  member.connection.onFrame = (frame) => {
    const microBatches = idsOf((frame.header as ContributionHeader).microBatches);
    const key = String(microBatches);
    if (!seen.has(key)) seen.set(key, { microBatches, payloads: new Map() });
    seen.get(key)?.payloads.set(frame.header.bucket, sha256(frame.payload));
    return onFrame(frame);
  };
  await engine.step(BATCHES, 1, 5, 1e-3);
  worker.leave('the test is over');
  await worker.run();
  return { contributions: [...seen.values()], scaleAfter: engine.lossScale?.exponent };
}

/** An owner's adapter on weights that stay those before step 1. */
async function ownerAdapter(more: Partial<ClusterOptions> = {}, notes = new Notes()) {
  const { engine } = await cluster(more);
  const adapter = new OwnerAdapter(engine.kernels, engine.owner, optionsOf(more), notes);
  const buckets = [...engine.owner.buckets.keys(), engine.owner.buckets.length];
  return { engine, adapter, notes, buckets };
}

const STEP = { kind: 'step', step: 1, version: 0 } as const;

describe("the owner's adapter", () => {
  const kinds = [
    ['float32', {}, undefined],
    ['float32, clipping', { clip: 0.5 }, undefined],
    ['float16', { shape: { ...SHAPE, precision: 'f16' } }, 16],
    ['float16, where the loss scale overflows', { shape: { ...SHAPE, precision: 'f16' } }, 40],
    ['the low wire', { shape: { ...SHAPE, wire: 'low' } }, undefined],
    [
      'the low wire, portable, clipping',
      { clip: 0.5, shape: { ...SHAPE, wire: 'low', precision: 'portable' } },
      undefined,
    ],
    ['the low wire, float16', { shape: { ...SHAPE, wire: 'low', precision: 'f16' } }, 16],
    [
      'the low wire, float16, where the loss scale overflows',
      { shape: { ...SHAPE, wire: 'low', precision: 'f16' } },
      40,
    ],
  ] as const;
  test.each(sampled(kinds, 4))(
    "the owner's adapter contributes the bytes of a worker: %s",
    async (_name, more, scaleExponent) => {
      if (scaleExponent !== undefined && !gpu.has('shader-f16'))
        return console.warn('mixed precision is not tested: this adapter has no shader-f16');
      const { contributions, scaleAfter } = await contributionsOfWorker(more, scaleExponent);
      if (scaleExponent === 40) expect(scaleAfter).toBeLessThan(40);
      expect(contributions.flatMap(({ microBatches }) => microBatches).sort()).toEqual([0, 1, 2, 3]);
      const { adapter, notes, buckets } = await ownerAdapter(more);
      let assignment = 0;
      for (const { microBatches, payloads } of contributions) {
        assignment++;
        notes.frames.length = 0;
        const done = notes.next();
        adapter.take({ ...STEP, assignment, batches: some(microBatches), buckets, scaleExponent });
        await done;
        expect(notes.told).toEqual([]);
        expect(payloads.size).toBe(buckets.length);
        expect(digestsOf(notes.frames)).toEqual(payloads);
        for (const { header } of notes.frames) {
          if (header.kind !== 'contribution') throw new Error('no contribution');
          expect(header).toMatchObject({ incarnation: 3, assignment, step: 1 });
          expect(idsOf(header.microBatches)).toEqual(microBatches);
        }
      }
    },
  );

  test("the owner's adapter contributes only what is lacking", async () => {
    const { adapter, notes } = await ownerAdapter();
    const done = notes.next();
    adapter.take({ ...STEP, assignment: 1, batches: some([2]), buckets: [1] });
    await done;
    expect(notes.frames.map(({ header }) => header.bucket)).toEqual([1]);
  });

  test("the owner's adapter evaluates to the sum of a worker", async () => {
    const { engine, url } = await cluster();
    const worker = await startWorker(url);
    const mean = await engine.evaluate(BATCHES, 1);
    worker.leave('the test is over');
    await worker.run();
    const { adapter, notes } = await ownerAdapter();
    const done = notes.next();
    adapter.take({ kind: 'evaluate', assignment: 1, step: 0, version: 0, batches: some([0, 1, 2, 3]), buckets: [] });
    await done;
    const [[what, losses]] = notes.told as [[string, bigint]];
    expect(what).toBe('evaluated');
    expect(Number(losses) * 2 ** -40).toBe(mean);
  });

  test("the owner's adapter refuses what is not finite, names it, and is good for what is", async () => {
    const { engine, adapter, notes, buckets } = await ownerAdapter();
    const name = 'wte.weight';
    const wte = await engine.state.weights.read(gpu, name);
    const token = BATCHES[2].tokens[0];
    const isElsewhere = BATCHES.some(({ tokens, targets }, m) => m !== 2 && [...tokens, ...targets].includes(token));
    const batches = new Map([...some([0, 1, 2, 3])].filter(([m]) => m === 2 || !isElsewhere));
    engine.state.weights.write(gpu, name, wte.slice().fill(Number.NaN, token * MODEL.width, (token + 1) * MODEL.width));
    let done = notes.next();
    adapter.take({ ...STEP, assignment: 1, batches, buckets });
    await done;
    done = notes.next();
    adapter.take({ kind: 'evaluate', assignment: 2, step: 0, version: 0, batches, buckets: [] });
    await done;
    expect(notes.told).toEqual([
      ['refused', [2], expect.stringContaining('loss')],
      ['refused', [2], 'the loss'],
    ]);
    expect(notes.frames).toEqual([]);
    engine.state.weights.write(gpu, name, wte);
    done = notes.next();
    adapter.take({ ...STEP, assignment: 3, batches: some([2]), buckets });
    await done;
    expect(notes.frames).toHaveLength(buckets.length);
  });

  test("the owner's adapter says nothing of what was dropped, or of weights that are others by then", async () => {
    const { adapter, notes, buckets } = await ownerAdapter();
    adapter.take({ ...STEP, assignment: 1, batches: some([0]), buckets });
    adapter.take({ ...STEP, assignment: 2, batches: some([1]), buckets });
    adapter.drop(1);
    adapter.take({ ...STEP, assignment: 3, batches: some([2]), buckets, version: 7 });
    const done = notes.next();
    adapter.take({ ...STEP, assignment: 4, batches: some([3]), buckets });
    // During the task.
    notes.onWork = () => adapter.drop(2);
    await done;
    expect(notes.frames.map(({ header }) => header.assignment)).toEqual(buckets.map(() => 4));
    expect(notes.told).toEqual([]);
  });

  test.each(WIRES)(
    "an owner's adapter of too little memory says so in one line and takes nothing; before that, it recomputes layers: wire %s",
    async (wire) => {
      const more = { shape: { ...SHAPE, wire } };
      const { engine, buckets } = await ownerAdapter(more);
      const { model, plan, shape } = optionsOf(more);
      const needed = (recompute: boolean) =>
        8 * engine.layout.allocatedValues + memoryBudget(model, { ...shape, recompute }, plan).activationBytes;
      const deep = { ...optionsOf(more), availableBytes: () => needed(true) - 1 };
      const notes = new Notes();
      const before = gpu.memory.allocatedBytes;
      const adapter = new OwnerAdapter(engine.kernels, engine.owner, deep, notes);
      await adapter.prepare();
      expect(notes.told).toEqual([['unable', expect.stringMatching(/^computing here as well needs \d+ kB.*\d+ kB$/)]]);
      adapter.take({ ...STEP, assignment: 1, batches: some([0]), buckets });
      expect(adapter.task).toBeUndefined();
      expect(gpu.memory.allocatedBytes).toBe(before);

      const taken = async (availableBytes?: () => number) => {
        const before = gpu.memory.allocatedBytes;
        const adapter = new OwnerAdapter(
          engine.kernels,
          engine.owner,
          { ...optionsOf(more), availableBytes },
          new Notes(),
        );
        await adapter.prepare();
        return gpu.memory.allocatedBytes - before;
      };
      const [kept, recomputed] = [await taken(), await taken(() => needed(true))];
      expect(await taken(() => needed(false))).toBe(kept);
      expect(recomputed).toBeLessThan(kept);
      // The memory that the run reports for it. Packing takes more, as in workers.
      const budget = (computes?: BatchShape) =>
        ownerBudget(model, plan, true, computes, wire).totalBytes -
        ownerBudget(model, plan, true, undefined, wire).totalBytes;
      expect(budget(shape)).toBe(needed(false));
      expect(kept).toBeGreaterThanOrEqual(budget(shape));
      expect(recomputed).toBeGreaterThanOrEqual(budget({ ...shape, recompute: true }));
    },
  );

  test("the owner's adapter frees what it had built where its graph cannot be built", async () => {
    const { engine } = await ownerAdapter();
    const notes = new Notes();
    // An activation exceeds the largest binding; the sums are allocated before.
    const shape = { ...SHAPE, batch: 4096 };
    const before = gpu.memory.allocatedBytes;
    const adapter = new OwnerAdapter(engine.kernels, engine.owner, { ...optionsOf(), shape }, notes);
    await adapter.prepare();
    expect(notes.told).toEqual([['unable', expect.stringContaining('exceeds one binding')]]);
    expect(gpu.memory.allocatedBytes).toBe(before);
  });
});
