import { beforeAll, expect, test } from 'vitest';
import type { ParameterArena } from '../../src/model/layout.js';
import { type AdamWState, adamW, squares as referenceSquares } from '../../src/reference/optimizer.js';
import { type AdamWSettings, Optimizer, TrainingState } from '../../src/train/optimizer.js';
import { GpuHarness, noise } from '../gpu/harness.js';
import { OperationHarness } from '../model/harness.js';
import { sameBits } from '../reference/portable/same-bits.js';

let harness: GpuHarness;
beforeAll(async () => {
  harness = await GpuHarness.open();
});

const SETTINGS: AdamWSettings = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.5, decay: 'matrices' };

/** Number of the update, learning rate, factor of all gradients. */
const UPDATES = [
  [1, 0.1, 1],
  [2, 0.05, 0.3],
  [3, 0.01, 1e-9],
  [1000, 0.001, 1],
] as const;

/** Gradients of very different sizes, some of them zero and some a few steps of fixed point. */
function gradientValues(size: number, seed: number): Float32Array {
  return noise(size, seed).map((v, i) => v * [1, 0, 1e-11, 1e-4, 1000][i % 5]);
}

/** A model's state as the reference has it, by parameter name. */
function putState(arenas: Pick<TrainingState, 'weights' | 'm' | 'v'>): Map<string, AdamWState> {
  const { parameters } = arenas.weights.layout;
  return new Map(
    parameters.map(({ name, size }, i) => {
      // Some weights are below 2^-100, and some denormal. Some moments move a weight below 2^-100 by as little.
      const state = {
        weights: noise(size, 100 + i).map((v, k) => v * ([1e-34, 1e-40, 0, 7e-31][k % 13] ?? 1)),
        m: Float32Array.from({ length: size }, (_, k) => (k % 13 === 3 ? 1e-30 : 0)),
        v: Float32Array.from({ length: size }, (_, k) => (k % 13 === 3 ? 1e-12 : 0)),
      };
      for (const part of ['weights', 'm', 'v'] as const) arenas[part].write(harness.gpu, name, state[part]);
      return [name, state];
    }),
  );
}

/** The values of slab 0 with every parameter in its place. */
function slabOf(model: OperationHarness, values: ReadonlyMap<string, Float32Array>): Float32Array {
  const { layout } = model.weights;
  const slab = new Float32Array(layout.slabSizes[0]);
  for (const [name, tensor] of values) {
    let from = 0;
    for (const { offset, size } of layout.piecesOf(name)) {
      slab.set(tensor.subarray(from, from + size), offset);
      from += size;
    }
  }
  return slab;
}

test.each(['all', 'matrices'] as const)(
  'updates have the bits of the reference in weights, moments and squares, decaying %s',
  async (decay) => {
    const model = await OperationHarness.create(harness, { vocabSize: 130, width: 67, tie: false }, {}, true);
    const { layout } = model.weights;
    const optimizer = await Optimizer.build(harness.kernels, layout, model.sums, { ...SETTINGS, decay }, true);
    const states = putState(optimizer);
    for (const [step, learningRate, clipScale] of UPDATES) {
      const gradients = new Map(
        layout.parameters.map(({ name, size }, i) => [name, model.putSums(name, gradientValues(size, 10 * step + i))]),
      );
      const squares = referenceSquares(slabOf(model, gradients));
      const cleared = new Float32Array(squares.length);
      harness.gpu.write(model.sums.squares(0), cleared);
      optimizer.submitNorm();
      sameBits(await harness.floats(model.sums.squares(0)), squares, `squares of step ${step}`);
      harness.gpu.write(model.sums.squares(0), cleared);
      optimizer.submitUpdate(step, learningRate, clipScale);
      sameBits(await harness.floats(model.sums.squares(0)), squares, `squares beside update ${step}`);
      for (const { name, kind } of layout.parameters) {
        const decays = decay === 'all' || kind === 'matrix' || kind === 'embedding';
        const state = states.get(name) as AdamWState;
        const gradient = gradients.get(name) as Float32Array;
        adamW(state, gradient, { ...SETTINGS, learningRate, clipScale, step, decays });
        for (const part of ['weights', 'm', 'v'] as const)
          sameBits(await optimizer[part].read(harness.gpu, name), state[part], `${part} of ${name} after ${step}`);
      }
    }
  },
);

test.each([8, 128])('%d threads that share a chunk give the bits of the reference', async (CHUNK_THREADS) => {
  // Three chunks, the last one partial.
  const model = await OperationHarness.create(harness, { vocabSize: 100, width: 67 }, {}, true);
  const { layout } = model.weights;
  const state = await TrainingState.allocate(harness.kernels, layout, SETTINGS, true);
  const states = putState(state);
  const gradients = new Map(
    layout.parameters.map(({ name, size }, i) => [name, model.putSums(name, gradientValues(size, i))]),
  );
  state.writeStep(1, 0.1, 0.5);
  const [bucket] = layout.buckets();
  const { slab, offset, size } = bucket;
  const of = (arena: ParameterArena) => arena.range(slab, offset, size);
  const sums = { low: of(model.sums.low), high: of(model.sums.high) };
  const squares = model.sums.squares(slab, offset, size);
  const want = referenceSquares(slabOf(model, gradients).subarray(0, size));
  for (const dispatch of [
    state.norm(bucket, sums, squares),
    state.update(bucket, sums, of(state.weights), squares, true),
  ]) {
    harness.gpu.write(squares, new Float32Array(want.length));
    await harness.run({ ...dispatch, constants: { ...dispatch.constants, CHUNK_THREADS } });
    sameBits(await harness.floats(squares), want, dispatch.shader);
  }
  for (const { name, kind } of layout.parameters) {
    const own = states.get(name) as AdamWState;
    const decays = kind === 'matrix' || kind === 'embedding';
    adamW(own, gradients.get(name) as Float32Array, {
      ...SETTINGS,
      learningRate: 0.1,
      clipScale: 0.5,
      step: 1,
      decays,
    });
    sameBits(await state.weights.read(harness.gpu, name), own.weights, name);
  }
});

test('the corrections of an update do not come from the engine: they keep the bits where 1 - beta^t cancels', async () => {
  const model = await OperationHarness.create(harness, { width: 5, heads: 1 }, {}, true);
  const settings = { ...SETTINGS, beta1: 0.99999999 };
  const step = 9;
  // V8's own power has other bits here.
  const optimizer = await Optimizer.build(harness.kernels, model.weights.layout, model.sums, settings, true);
  const own = putState(optimizer).get('ln_f.weight') as AdamWState;
  const gradients = model.putSums('ln_f.weight', noise(5, 2));
  optimizer.submitUpdate(step, 1, 1);
  adamW(own, gradients, { ...settings, learningRate: 1, clipScale: 1, step, decays: false });
  sameBits(await optimizer.weights.read(harness.gpu, 'ln_f.weight'), own.weights, 'weights');
});

test('a NaN among the moments stays in its weight', async () => {
  const model = await OperationHarness.create(harness, { width: 5, heads: 1 }, {}, true);
  const optimizer = await Optimizer.build(harness.kernels, model.weights.layout, model.sums, SETTINGS, true);
  const values = noise(5, 1);
  optimizer.weights.write(harness.gpu, 'ln_f.weight', values);
  for (const arena of [optimizer.m, optimizer.v])
    arena.write(harness.gpu, 'ln_f.weight', Float32Array.of(0, 0, Number.NaN, 0, 0));
  optimizer.submitUpdate(1, 0.1, 1);
  const got = await optimizer.weights.read(harness.gpu, 'ln_f.weight');
  expect(got[2]).toBeNaN();
  got[2] = values[2];
  sameBits(got, values, 'the other weights');
});
