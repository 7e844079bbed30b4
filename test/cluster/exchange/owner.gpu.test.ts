import { beforeAll, describe, expect, test } from 'vitest';
import { ClusterOwner, type OwnerOptions } from '../../../cluster/exchange/owner.js';
import { SumPacker, WeightChecks, WeightFollower } from '../../../cluster/exchange/packing.js';
import { Gpu } from '../../../src/gpu/device.js';
import { KernelCache } from '../../../src/gpu/kernel.js';
import type { View } from '../../../src/gpu/view.js';
import { ownerBudget } from '../../../src/model/activations.js';
import { GridArena } from '../../../src/model/grid.js';
import { ParameterArena, ParameterLayout } from '../../../src/model/layout.js';
import type { Precision } from '../../../src/model/precision.js';
import type { Wire } from '../../../src/model/wire.js';
import { openDawn } from '../../../src/node/dawn.js';
import { loadShaders } from '../../../src/node/shaders.js';
import type { Engine } from '../../../src/train/engine.js';
import { clipScaleOf, type TrainingState } from '../../../src/train/optimizer.js';
import { packDifferences, unpackSums } from '../../reference/blocks.js';
import { type Golden, loadGolden } from '../../reference/golden.js';
import { packUpdates, unpackLow } from '../../reference/low-blocks.js';
import { IS_THOROUGH } from '../../thorough.js';
import { goldenEngine, goldenMicroBatches, restart } from '../../train/fixture.js';

const RATE = 1e-3;
const CLIP = 0.5;
/** Slabs of a few tensors, so that there are several short buckets. */
const LIMITS = { windowValues: 2 ** 13, slabValues: 2 ** 13 };

let gpu: Gpu;
let golden: Golden;
let kernels: KernelCache;

/** One process, and the owner of a cluster, of the same run. */
interface Pair {
  readonly engine: Engine;
  readonly owner: ClusterOwner;
  /** What `ClusterOwner.build` is told of the wire. */
  readonly wired: Omit<OwnerOptions, 'clips'>;
}

interface Kind {
  readonly wire: Wire;
  readonly precision: Precision;
}

const PORTABLE: Kind = { wire: 'low', precision: 'portable' };
const KINDS: readonly Kind[] = [
  { wire: 'exact', precision: 'f32' },
  { wire: 'low', precision: 'f32' },
  ...(IS_THOROUGH ? [PORTABLE] : []),
];

beforeAll(async () => {
  gpu = await Gpu.open(openDawn());
  golden = loadGolden('untied');
  kernels = new KernelCache(gpu, loadShaders());
});

const engines = new Map<Kind, Promise<Engine>>();

/**
 * One process and the owner of a cluster, both with the golden weights and zero moments. The owner is a new one, for it knows
 * the grid of its last step.
 */
async function begin(kind: Kind, clips = false): Promise<Pair> {
  const { wire, precision } = kind;
  const options = { microBatch: 1, plan: LIMITS, clip: CLIP, precision, wire };
  const known = engines.get(kind) ?? goldenEngine(gpu, golden, options);
  engines.set(kind, known);
  const engine = await known;
  const wired = { portable: precision === 'portable', ...(wire === 'low' && { lowMicroBatches: golden.batch }) };
  const owner = await ClusterOwner.build(kernels, engine.layout, engine.options.adamw, { clips, ...wired });
  restart(engine, golden);
  for (const { name } of engine.layout.parameters)
    owner.state.weights.write(gpu, name, golden.weights.get(name) ?? new Float32Array());
  owner.state.start(0, true);
  engine.sums.clear(gpu);
  return { engine, owner, wired };
}

const bits = async (view: View) => new Uint32Array(await gpu.read(view));

/** The buffers of a state, by part. */
async function partsOf({ weights, m, v, master, grid }: TrainingState): Promise<Record<string, Uint32Array[]>> {
  const parts: Record<string, Uint32Array[]> = {};
  for (const [name, part] of Object.entries({ weights, m, v, master, grid })) {
    if (part === undefined) continue;
    parts[name] = [];
    for (const slab of part.slabs) parts[name].push(await bits(slab));
  }
  return parts;
}

interface Words {
  readonly low: Uint32Array;
  readonly high: Uint32Array;
}

/** The sums of one step, packed by a worker and unpacked by the coordinator. */
async function sumsOf({ engine, owner }: Pair, packer: SumPacker, step: number): Promise<Words[]> {
  const batches = goldenMicroBatches(golden, step, 1);
  const tokens = batches.reduce((n, b) => n + b.tokens.length, 0);
  for (const batch of batches) engine.gpt.submitGradient(batch, { seed: 1, step, tokenWeight: 1 / tokens });
  for (const [i, check] of (await owner.gridChecks())?.entries() ?? []) packer.setCheck(i, check);
  const packed = await Promise.all(packer.buckets.map((_, i) => packer.pack(i)));
  return packed.map((bytes, i) => {
    const { size } = packer.buckets[i];
    if (engine.sums.grid === undefined) return unpackSums(bytes, size);
    const values = unpackLow(bytes, size, 'sums');
    const low = Uint32Array.from(values, (value) => Number(BigInt.asUintN(32, value)));
    return { low, high: Uint32Array.from(values, (value) => Number(BigInt.asUintN(32, value >> 32n))) };
  });
}

describe.each(KINDS)('in the $wire wire, $precision', (kind) => {
  test.each([
    ['with clipping', CLIP],
    ['without', 0],
  ])('a step bucket by bucket has the bits of a whole step, clipped or not; workers follow (%s)', async (_, clip) => {
    const pair = await begin(kind);
    const { engine, owner, wired } = pair;
    const packer = await SumPacker.build(kernels, engine.sums);
    const copy = await ParameterArena.allocate(gpu, engine.layout, 'copy');
    const grid = kind.wire === 'low' ? await GridArena.allocate(gpu, engine.layout, 'grid copy') : undefined;
    const follower = await WeightFollower.build(kernels, copy, grid && { grid, portable: wired.portable === true });
    const checks = await WeightChecks.build(kernels, copy);
    const count = owner.buckets.length;
    expect(count).toBeGreaterThan(2);
    for (let i = 0; i < count; i++) follower.load(i, await owner.readWeights(i));
    for (let step = 1; step <= 3; step++) {
      const sums = await sumsOf(pair, packer, step);
      engine.optimizer.submitNorm();
      const { squares } = await engine.sums.takeReport(gpu);
      engine.optimizer.submitUpdate(step, RATE, clipScaleOf(clip, Math.sqrt(squares)));
      const { noise } = await engine.sums.readReport();
      expect(noise > 0).toBe(kind.wire === 'low');

      // Buckets complete in any order.
      const order = sums.map((_, i) => (i * 2 + step) % count).filter((b, i, all) => all.indexOf(b) === i);
      for (let i = 0; i < count; i++) if (!order.includes(i)) order.push(i);
      if (clip > 0) {
        for (const i of order) owner.submitNorm(i, sums[i].low, sums[i].high);
        expect((await owner.readSquares()).squares).toBe(squares);
      }
      owner.beginUpdate(step, RATE, clipScaleOf(clip, Math.sqrt(squares)));
      for (const i of order) owner.submitUpdate(i, sums[i]);
      expect(await owner.readSquares()).toEqual({ squares, noise });
      const down = await Promise.all(sums.map((_, i) => owner.pack(i)));
      owner.commit();
      const expected = down.map((packed, i) => follower.apply(i, packed, owner.exponent));

      expect(await checks.read()).toEqual(expected);
      const after = await partsOf(engine.optimizer.state);
      expect(await partsOf(owner.state)).toEqual(after);
      for (const [slab, view] of copy.slabs.entries()) expect(await bits(view)).toEqual(after.weights[slab]);
      for (const [slab, view] of grid?.slabs.entries() ?? []) expect(await bits(view)).toEqual(after.grid[slab]);
      if (grid) expect(sums.map((_, i) => follower.gridChecks(i))).toEqual(await owner.gridChecks());
    }
  });

  test('a step bucket by bucket keeps the old weights until the commit, which needs every bucket, each once', async () => {
    const { owner } = await begin(kind);
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
    for (const i of ones.keys()) if (i !== 1) await owner.pack(i);
    owner.commit();
    const after = await owner.readWeights(1, 8);
    expect(after).not.toEqual(old[1]);
    const { size } = owner.buckets[1];
    const [from, to] = [old[1], after].map((bytes) => new Uint32Array(bytes.buffer, 8, size));
    if (kind.wire === 'exact') expect(down.slice(4)).toEqual(packDifferences(from, to));
    else {
      const [s, next] = [old[1], after].map((bytes) => new Float32Array(bytes.buffer, 8, size));
      const moves = Array.from(s, (weight, i) => Math.round((next[i] - weight) * 2 ** -owner.exponent));
      expect(new Set(moves.filter((move) => move !== 0))).toEqual(new Set([-2]));
      expect(down.slice(4)).toEqual(packUpdates(moves, after.subarray(8 + 4 * size), to));
    }
  });

  test('an owner is read as it was before the step while some buckets are updated, and ends with the same bits', async () => {
    const pair = await begin(kind);
    const { engine, owner } = pair;
    const packer = await SumPacker.build(kernels, engine.sums);
    const count = owner.buckets.length;
    // Not whole slabs: the bytes between the tensors have no meaning.
    const words = async ({ weights, m, v, master, grid }: TrainingState) => {
      const all: (Float32Array | Uint32Array)[] = [];
      for (const arena of [weights, m, v, ...(master ? [master] : [])])
        for (const { name } of engine.layout.parameters) all.push(await arena.read(gpu, name));
      for (const slab of grid?.slabs ?? []) all.push(await bits(slab));
      return all;
    };
    const one = async (step: number, during: (updated: number) => Promise<void>) => {
      const sums = await sumsOf(pair, packer, step);
      engine.optimizer.submitNorm();
      await engine.sums.takeReport(gpu);
      engine.optimizer.submitUpdate(step, RATE, 1);
      owner.beginUpdate(step, RATE, 1);
      for (const [i, { low, high }] of sums.entries()) {
        await during(i);
        owner.submitUpdate(i, { low, high });
      }
      await during(count);
      for (const i of sums.keys()) await owner.pack(i);
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
    const { owner: own } = await begin(kind, true);
    expect(await own.readBefore(async () => 'read')).toBe('read');
    const zeros = () => new Uint32Array(own.buckets[0].size);
    own.beginUpdate(1, RATE, 1);
    own.submitUpdate(0, { low: zeros(), high: zeros() });
    await expect(own.readBefore(async () => 'read')).rejects.toThrow('the moments before this step are gone');
  });

  test('an owner takes sums from shared memory', async () => {
    const { owner } = await begin(kind);
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

  test('sums of a bucket are final before the list that makes them is done, and can be packed then', async () => {
    const { engine, owner } = await begin(kind);
    const packer = await SumPacker.build(kernels, engine.sums);
    for (const [i, check] of (await owner.gridChecks())?.entries() ?? []) packer.setCheck(i, check);
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
      // Not one dispatch too many: without the last one something is missing, except that portable products are split and the
      // last part may have nothing to add.
      gradient.submit(gpu, done, dispatches - 1);
      if (dispatches > done && kind.precision !== 'portable')
        expect(await packer.pack(bucket)).not.toEqual(whole[bucket]);
      gradient.submit(gpu, Math.max(done, dispatches - 1), dispatches);
      expect(await packer.pack(bucket)).toEqual(whole[bucket]);
      done = dispatches;
    }
    engine.sums.clear(gpu);
  });

  test('each bucket of a long slab finds its own decay bits', async () => {
    const { engine, wired } = await begin(kind);
    // The embedding is longer than a bucket, so biases and gains are in the second one.
    const config = { ...golden.config, vocabSize: 2 ** 14, width: 68, heads: 1, layers: 1 };
    const layout = new ParameterLayout(config);
    const settings = { ...engine.options.adamw, weightDecay: 0.5, decay: 'matrices' } as const;
    const large = await ClusterOwner.build(kernels, layout, settings, { clips: false, ...wired });
    expect(large.buckets.filter(({ slab }) => slab === 0).length).toBeGreaterThan(1);
    for (const { name, size } of layout.parameters)
      large.state.weights.write(gpu, name, new Float32Array(size).fill(2));
    large.state.start(0, true);
    large.beginUpdate(1, 1, 1);
    large.buckets.forEach(({ size }, i) => {
      large.submitUpdate(i, { low: new Uint32Array(size), high: new Uint32Array(size) });
    });
    for (const i of large.buckets.keys()) await large.pack(i);
    large.commit();
    for (const { name, kind } of layout.parameters) {
      const expected = kind === 'matrix' || kind === 'embedding' ? 1 : 2;
      expect((await large.state.weights.read(gpu, name)).every((w) => w === expected)).toBe(true);
    }
  });

  test('moments that are kept take the memory that is budgeted for them', async () => {
    const { engine, wired } = await begin(kind);
    const { layout, options } = engine;
    const taken = async (keepsMoments: boolean) => {
      const before = gpu.memory.allocatedBytes;
      await ClusterOwner.build(kernels, layout, options.adamw, { clips: !keepsMoments, ...wired });
      return gpu.memory.allocatedBytes - before;
    };
    const budget = (keepsMoments: boolean) =>
      ownerBudget(layout.config, options.plan, keepsMoments, undefined, kind.wire).stateBytes;
    expect((await taken(true)) - (await taken(false))).toBe(budget(true) - budget(false));
    expect(await taken(true)).toBeGreaterThanOrEqual(budget(true));
  });
});
