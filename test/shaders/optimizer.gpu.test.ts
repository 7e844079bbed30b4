import { beforeAll, expect, test } from 'vitest';
import { type LayoutLimits, type ParameterArena, sparsePieces } from '../../src/model/layout.js';
import { parameters } from '../../src/model/parameters.js';
import { NORM_CHUNK_VALUES } from '../../src/model/sums.js';
import { type AdamWSettings, Optimizer, TrainingState } from '../../src/train/optimizer.js';
import { GpuHarness, noise } from '../gpu/harness.js';
import { OperationHarness } from '../model/harness.js';
import { adamW, freshAdamW } from '../reference/adamw.js';
import { agree } from '../reference/agree.js';
import { sampled } from '../thorough.js';

let harness: GpuHarness;
beforeAll(async () => {
  harness = await GpuHarness.open();
});

const SETTINGS: AdamWSettings = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.5, decay: 'matrices' };
const LARGE = { vocabSize: 16000, width: 67, tie: false };

/** Gradients of very different sizes, some of them zero and some below AdamW's epsilon. */
function gradientValues(size: number, seed: number): Float32Array {
  return noise(size, seed).map((v, i) => v * [1, 0, 1e-9, 1e-4, 10][i % 5]);
}

const arenaTensor = async (arena: ParameterArena, name: string) => arena.read(harness.gpu, name);

test.each(sampled(['all', 'matrices'] as const, 2))(
  'three updates agree with float64, decaying %s, over several buckets',
  async (decay) => {
    const model = await OperationHarness.create(harness, decay === 'all' ? { vocabSize: 1, width: 1 } : LARGE);
    const { layout } = model.weights;
    if (decay === 'matrices') expect(layout.buckets().length).toBeGreaterThan(2);
    const optimizer = await Optimizer.build(harness.kernels, layout, model.sums, { ...SETTINGS, decay });
    const weights = new Map<string, Float64Array>();
    layout.parameters.forEach(({ name, size }, i) => {
      const values = noise(size, 100 + i);
      optimizer.weights.write(harness.gpu, name, values);
      weights.set(name, Float64Array.from(values));
    });
    const kinds = new Map(layout.parameters.map((p) => [p.name, p.kind]));
    const decays = (name: string) => decay === 'all' || ['matrix', 'embedding'].includes(kinds.get(name) as string);
    const state = freshAdamW();
    for (const [step, learningRate, clipScale] of [
      [1, 0.1, 1],
      [2, 0.05, 0.25],
      [3, 0.01, 1],
    ]) {
      const gradients = new Map(
        layout.parameters.map(({ name, size }, i) => [name, model.putSums(name, gradientValues(size, 10 * step + i))]),
      );
      optimizer.submitUpdate(step, learningRate, clipScale);
      adamW(weights, gradients, state, { ...SETTINGS, learningRate, clipScale, decays });
    }
    for (const { name } of layout.parameters) {
      agree(await arenaTensor(optimizer.weights, name), weights.get(name) ?? [], 2e-6, `${name}, weights`);
      agree(await arenaTensor(optimizer.m, name), state.m.get(name) ?? [], 1e-6, `${name}, first moments`);
      agree(await arenaTensor(optimizer.v, name), state.v.get(name) ?? [], 1e-6, `${name}, second moments`);
    }
    // Sums that the next step adds to are zero again; sums that it overwrites need not be.
    const sparse = new Set(sparsePieces(layout).map((piece) => piece.parameter.name));
    expect([...sparse]).toEqual(decay === 'matrices' ? ['wte.weight'] : []);
    for (const half of [model.sums.low, model.sums.high]) {
      for (const name of sparse) {
        const left = (await arenaTensor(half, name)).findIndex((v) => !Object.is(v, 0));
        expect(left, `${name}: the sums are zero again`).toBe(-1);
      }
    }
    const last = layout.parameters[layout.parameters.length - 1].name;
    expect((await arenaTensor(model.sums.low, last)).some((v) => !Object.is(v, 0))).toBe(true);
  },
);

test('an update leaves weights without gradient and decay alone, bit for bit', async () => {
  const model = await OperationHarness.create(harness, { width: 5, heads: 1 });
  const { layout } = model.weights;
  const settings = { ...SETTINGS, weightDecay: 0, decay: 'all' } as const;
  const optimizer = await Optimizer.build(harness.kernels, layout, model.sums, settings);
  const values = noise(5, 1);
  optimizer.weights.write(harness.gpu, 'ln_f.weight', values);
  optimizer.submitUpdate(1, 0.1, 1);
  expect(await optimizer.weights.read(harness.gpu, 'ln_f.weight')).toEqual(values);
});

const LIMITS: Record<string, LayoutLimits> = {
  'one slab': { windowValues: 2 ** 25, slabValues: 2 ** 26 },
  'slabs of two buckets, bound a bucket at a time': { windowValues: 2 ** 20, slabValues: 2 ** 21 },
};

test.each(sampled(Object.entries(LIMITS), 2))(
  'the gradient norm by chunks agrees with float64: %s',
  async (_, limits) => {
    const model = await OperationHarness.create(harness, LARGE, limits);
    const { layout } = model.weights;
    expect(layout.slabSizes.length).toBe(limits.slabValues === 2 ** 21 ? 2 : 1);
    const optimizer = await Optimizer.build(harness.kernels, layout, model.sums, SETTINGS);
    const slabs = layout.slabSizes.map((size) => new Float64Array(size));
    parameters(layout.config).forEach(({ name, size }, i) => {
      const gradient = model.putSums(name, gradientValues(size, 50 + i));
      let from = 0;
      for (const piece of layout.piecesOf(name)) {
        slabs[piece.slab].set(gradient.subarray(from, from + piece.size), piece.offset);
        from += piece.size;
      }
    });
    optimizer.submitNorm();
    let total = 0;
    for (const [slab, values] of slabs.entries()) {
      const want: number[] = [];
      for (let i = 0; i < values.length; i += NORM_CHUNK_VALUES)
        want.push(values.subarray(i, i + NORM_CHUNK_VALUES).reduce((sum, g) => sum + g * g, 0));
      agree(await harness.floats(model.sums.squares(slab)), want, 1e-5, `chunks of slab ${slab}`);
      total += want.reduce((a, b) => a + b);
    }
    const { squares } = await model.report();
    expect(Math.abs(squares - total) / total).toBeLessThan(1e-5);
  },
);

test('the threads that share a chunk change no bit', async () => {
  const adamw = { ...SETTINGS, decay: 'matrices' } as const;
  const results: Uint32Array[][] = [];
  for (const CHUNK_THREADS of [8, 128]) {
    // Three chunks, the last one partial.
    const model = await OperationHarness.create(harness, { vocabSize: 100, width: 67 });
    const { layout } = model.weights;
    const state = await TrainingState.allocate(harness.kernels, layout, adamw);
    layout.parameters.forEach(({ name, size }, i) => {
      state.weights.write(harness.gpu, name, noise(size, 100 + i));
      model.putSums(name, gradientValues(size, i));
    });
    state.writeStep(1, 0.1, 0.5);
    const [bucket] = layout.buckets();
    const { slab, offset, size } = bucket;
    expect(size % NORM_CHUNK_VALUES).toBeGreaterThan(0);
    const of = (arena: ParameterArena) => arena.range(slab, offset, size);
    const gradients = { low: of(model.sums.low), high: of(model.sums.high) };
    const squares = model.sums.squares(slab, offset, size);
    const outputs = [squares, of(state.weights), of(state.m), of(state.v)];
    const words: Uint32Array[] = [];
    for (const dispatch of [
      state.norm(bucket, gradients, squares),
      state.update(bucket, gradients, of(state.weights), squares, true),
    ]) {
      await harness.run({ ...dispatch, constants: { ...dispatch.constants, CHUNK_THREADS } });
      for (const view of outputs) words.push(await harness.words(view));
    }
    expect(words[4]).toEqual(words[0]);
    expect(words[0].every((w) => w > 0)).toBe(true);
    results.push([...words, await harness.words(gradients.low), await harness.words(gradients.high)]);
  }
  expect(results[1]).toEqual(results[0]);
});
