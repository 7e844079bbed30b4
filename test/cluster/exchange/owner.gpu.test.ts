import { beforeAll, describe, expect, test } from 'vitest';
import { ClusterOwner } from '../../../cluster/exchange/owner.js';
import { SumPacker, WeightChecks, WeightFollower } from '../../../cluster/exchange/packing.js';
import { Gpu } from '../../../src/gpu/device.js';
import { KernelCache } from '../../../src/gpu/kernel.js';
import type { View } from '../../../src/gpu/view.js';
import { ownerBudget } from '../../../src/model/activations.js';
import { ParameterArena, ParameterLayout } from '../../../src/model/layout.js';
import { openDawn } from '../../../src/node/dawn.js';
import { loadShaders } from '../../../src/node/shaders.js';
import type { Engine } from '../../../src/train/engine.js';
import { clipScaleOf, type TrainingState } from '../../../src/train/optimizer.js';
import { packDifferences, unpackSums } from '../../reference/blocks.js';
import { type Golden, loadGolden } from '../../reference/golden.js';
import { goldenEngine, goldenMicroBatches } from '../../train/fixture.js';

const RATE = 1e-3;
const CLIP = 0.5;
/** Slabs of a few tensors, so that there are several short buckets. */
const LIMITS = { windowValues: 2 ** 13, slabValues: 2 ** 13 };

let gpu: Gpu;
let golden: Golden;
let kernels: KernelCache;
let engine: Engine;
let owner: ClusterOwner;

beforeAll(async () => {
  gpu = await Gpu.open(openDawn());
  golden = loadGolden('untied');
  engine = await goldenEngine(gpu, golden, { microBatch: 1, plan: LIMITS, clip: CLIP });
  kernels = new KernelCache(gpu, loadShaders());
  owner = await ClusterOwner.build(kernels, engine.layout, engine.options.adamw, { clips: false });
});

const bits = async (view: View) => new Uint32Array(await gpu.read(view));

/** The owner starts from the engine's weights and zero moments. */
async function begin(): Promise<void> {
  const { weights, m, v } = engine.optimizer;
  for (const { name, size } of engine.layout.parameters) {
    const values = golden.weights.get(name) ?? new Float32Array();
    const zeros = new Float32Array(size);
    for (const [own, data] of [
      [weights, values],
      [m, zeros],
      [v, zeros],
      [owner.state.weights, values],
      [owner.state.m, zeros],
      [owner.state.v, zeros],
    ] as const)
      own.write(gpu, name, data);
  }
  engine.sums.clear(gpu);
}

/** The sums of one step, packed by a worker and unpacked by the coordinator. */
async function sumsOf(packer: SumPacker, step: number) {
  const batches = goldenMicroBatches(golden, step, 1);
  const tokens = batches.reduce((n, b) => n + b.tokens.length, 0);
  for (const batch of batches) engine.gpt.submitGradient(batch, { seed: 1, step, tokenWeight: 1 / tokens });
  const packed = await Promise.all(packer.buckets.map((_, i) => packer.pack(i)));
  return packed.map((bytes, i) => unpackSums(bytes, packer.buckets[i].size));
}

describe('a step bucket by bucket', () => {
  test.each([
    ['with clipping', CLIP],
    ['without', 0],
  ])('a step bucket by bucket has the bits of a whole step, clipped or not; workers follow (%s)', async (_, clip) => {
    const packer = await SumPacker.build(kernels, engine.sums);
    const copy = await ParameterArena.allocate(gpu, engine.layout, 'copy');
    const follower = await WeightFollower.build(kernels, copy);
    const checks = await WeightChecks.build(kernels, copy);
    const count = owner.buckets.length;
    expect(count).toBeGreaterThan(2);
    await begin();
    for (let i = 0; i < count; i++) follower.load(i, await owner.readWeights(i));
    for (let step = 1; step <= 3; step++) {
      const sums = await sumsOf(packer, step);
      engine.optimizer.submitNorm();
      const { squares } = await engine.sums.takeReport(gpu);
      engine.optimizer.submitUpdate(step, RATE, clipScaleOf(clip, Math.sqrt(squares)));

      // Buckets complete in any order.
      const order = sums.map((_, i) => (i * 2 + step) % count).filter((b, i, all) => all.indexOf(b) === i);
      for (let i = 0; i < count; i++) if (!order.includes(i)) order.push(i);
      if (clip > 0) {
        for (const i of order) owner.submitNorm(i, sums[i].low, sums[i].high);
        expect((await owner.readSquares()).squares).toBe(squares);
      }
      owner.beginUpdate(step, RATE, clipScaleOf(clip, Math.sqrt(squares)));
      for (const i of order) owner.submitUpdate(i, sums[i]);
      expect((await owner.readSquares()).squares).toBe(squares);
      const down = await Promise.all(sums.map((_, i) => owner.pack(i)));
      owner.commit();
      const expected = down.map((packed, i) => follower.apply(i, packed));

      expect(await checks.read()).toEqual(expected);
      for (const slab of engine.layout.slabSizes.keys()) {
        const { weights, m, v } = engine.optimizer;
        const after = await bits(weights.slabs[slab]);
        expect(await bits(owner.state.weights.slabs[slab])).toEqual(after);
        expect(await bits(copy.slabs[slab])).toEqual(after);
        expect(await bits(owner.state.m.slabs[slab])).toEqual(await bits(m.slabs[slab]));
        expect(await bits(owner.state.v.slabs[slab])).toEqual(await bits(v.slabs[slab]));
      }
    }
  });

  test('a step bucket by bucket keeps the old weights until the commit, which needs every bucket, each once', async () => {
    await begin();
    const old = await Promise.all(owner.buckets.map((_, i) => owner.readWeights(i, 8)));
    const ones = owner.buckets.map(({ size }) => new Uint32Array(size).fill(2 ** 30));
    const zeros = owner.buckets.map(({ size }) => new Uint32Array(size));
    owner.beginUpdate(1, RATE, 1);
    owner.submitUpdate(1, { low: ones[1], high: zeros[1] });
    expect(() => owner.submitUpdate(1, { low: ones[1], high: zeros[1] })).toThrow(RangeError);
    expect(() => owner.pack(0)).toThrow(RangeError);
    expect(() => owner.commit()).toThrow(RangeError);
    expect(() => owner.submitUpdate(0, { low: ones[0].subarray(1), high: zeros[0] })).toThrow(RangeError);
    const down = await owner.pack(1, 4);
    expect(await owner.readWeights(1, 8)).toEqual(old[1]);
    for (const i of ones.keys()) if (i !== 1) owner.submitUpdate(i, { low: ones[i], high: zeros[i] });
    expect(await Promise.all(owner.buckets.map((_, i) => owner.readWeights(i, 8)))).toEqual(old);
    owner.commit();
    const after = await owner.readWeights(1, 8);
    expect(after).not.toEqual(old[1]);
    expect(down.slice(4)).toEqual(packDifferences(new Uint32Array(old[1].buffer, 8), new Uint32Array(after.buffer, 8)));
  });

  test('an owner is read as it was before the step while some buckets are updated, and ends with the same bits', async () => {
    const packer = await SumPacker.build(kernels, engine.sums);
    const count = owner.buckets.length;
    await begin();
    // Not whole slabs: the bytes between the tensors have no meaning.
    const words = async ({ weights, m, v }: TrainingState) => {
      const all: Float32Array[] = [];
      for (const arena of [weights, m, v])
        for (const { name } of engine.layout.parameters) all.push(await arena.read(gpu, name));
      return all;
    };
    const one = async (step: number, during: (updated: number) => Promise<void>) => {
      const sums = await sumsOf(packer, step);
      engine.optimizer.submitNorm();
      await engine.sums.takeReport(gpu);
      engine.optimizer.submitUpdate(step, RATE, 1);
      owner.beginUpdate(step, RATE, 1);
      for (const [i, { low, high }] of sums.entries()) {
        await during(i);
        owner.submitUpdate(i, { low, high });
      }
      await during(count);
      owner.commit();
    };
    await one(1, async () => {});
    const before = await words(owner.state);
    let reads = 0;
    await one(2, async (updated) => {
      if (updated % 2 === 1 && updated < count) return;
      // Two readers at once, one of them for longer.
      await owner.readBefore(async () => {
        await owner.readBefore(async () => expect(await words(owner.state)).toEqual(before));
        expect(await words(owner.state), `${updated} buckets are updated`).toEqual(before);
        expect(() => owner.submitUpdate(count - 1, { low: new Uint32Array(1), high: new Uint32Array(1) })).toThrow(
          /updated already|being read/,
        );
        expect(() => owner.commit()).toThrow(RangeError);
      });
      reads++;
    });
    expect(reads).toBeGreaterThan(2);
    const after = await words(owner.state);
    expect(after).toEqual(await words(engine.optimizer.state));
    expect(after).not.toEqual(before);
  });

  test('an owner cannot be read as it was before the step where updated moments are not kept', async () => {
    const own = await ClusterOwner.build(kernels, engine.layout, engine.options.adamw, { clips: true });
    expect(await own.readBefore(async () => 'read')).toBe('read');
    const zeros = () => new Uint32Array(own.buckets[0].size);
    own.beginUpdate(1, RATE, 1);
    own.submitUpdate(0, { low: zeros(), high: zeros() });
    await expect(own.readBefore(async () => 'read')).rejects.toThrow('the moments before this step are gone');
  });

  test('an owner takes sums from shared memory', async () => {
    await begin();
    const words = owner.buckets.map(({ size }) => {
      const shared = new Uint32Array(new SharedArrayBuffer(8 * size));
      shared.fill(3, 0, size);
      return { low: shared.subarray(0, size), high: shared.subarray(size) };
    });
    words.forEach(({ low, high }, i) => {
      owner.submitNorm(i, low, high);
    });
    const values = owner.buckets.reduce((n, { size }) => n + size, 0);
    expect((await owner.readSquares()).squares).toBeCloseTo(values * (3 * 2 ** -40) ** 2, 30);
    expect((await owner.readSquares()).squares).toBeGreaterThan(0);
  });
});

test('sums of a bucket are final before the list that makes them is done, and can be packed then', async () => {
  await begin();
  const packer = await SumPacker.build(kernels, engine.sums);
  const [batch] = goldenMicroBatches(golden, 0, 1);
  const context = { seed: 1, step: 1, tokenWeight: 1 };
  const gradient = engine.gpt.gradientList();
  engine.gpt.submitGradient(batch, context);
  const whole = await Promise.all(packer.buckets.map((_, i) => packer.pack(i)));
  engine.sums.clear(gpu);
  const finals = packer.finals(gradient);
  expect(finals.map((f) => f.bucket).sort((a, b) => a - b)).toEqual([...packer.buckets.keys()]);
  expect(finals[0].dispatches).toBeLessThan(gradient.length);
  engine.gpt.loadGradient(batch, context);
  let done = 0;
  for (const { bucket, dispatches } of finals) {
    // Not one dispatch too many: without the last one something is missing.
    gradient.submit(gpu, done, dispatches - 1);
    if (dispatches > done) expect(await packer.pack(bucket)).not.toEqual(whole[bucket]);
    gradient.submit(gpu, Math.max(done, dispatches - 1), dispatches);
    expect(await packer.pack(bucket)).toEqual(whole[bucket]);
    done = dispatches;
  }
  engine.sums.clear(gpu);
});

test('each bucket of a long slab finds its own decay bits', async () => {
  // The embedding is longer than a bucket, so biases and gains are in the second one.
  const config = { ...golden.config, vocabSize: 2 ** 14, width: 68, heads: 1, layers: 1 };
  const layout = new ParameterLayout(config);
  const settings = { ...engine.options.adamw, weightDecay: 0.5, decay: 'matrices' } as const;
  const large = await ClusterOwner.build(kernels, layout, settings, { clips: false });
  expect(large.buckets.filter(({ slab }) => slab === 0).length).toBeGreaterThan(1);
  for (const { name, size } of layout.parameters) large.state.weights.write(gpu, name, new Float32Array(size).fill(2));
  large.beginUpdate(1, 1, 1);
  large.buckets.forEach(({ size }, i) => {
    large.submitUpdate(i, { low: new Uint32Array(size), high: new Uint32Array(size) });
  });
  large.commit();
  for (const { name, kind } of layout.parameters) {
    const expected = kind === 'matrix' || kind === 'embedding' ? 1 : 2;
    expect((await large.state.weights.read(gpu, name)).every((w) => w === expected)).toBe(true);
  }
});

test('moments that are kept take the memory that is budgeted for them', async () => {
  const { layout, options } = engine;
  const taken = async (keepsMoments: boolean) => {
    const before = gpu.memory.allocatedBytes;
    await ClusterOwner.build(kernels, layout, options.adamw, { clips: !keepsMoments });
    return gpu.memory.allocatedBytes - before;
  };
  const budget = (keepsMoments: boolean) => ownerBudget(layout.config, options.plan, keepsMoments).stateBytes;
  expect((await taken(true)) - (await taken(false))).toBe(budget(true) - budget(false));
  expect(await taken(true)).toBeGreaterThanOrEqual(budget(true));
});
