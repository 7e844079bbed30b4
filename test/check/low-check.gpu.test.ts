import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { describeMismatch, type Mismatch } from '../../src/check/checking.js';
import type { CheckedPipelines } from '../../src/check/lists.js';
import { checkGraph } from '../../src/check/portable-check.js';
import { checkUpdates } from '../../src/check/update-check.js';
import type { Gpu } from '../../src/gpu/device.js';
import { KernelCache, type ShaderTexts } from '../../src/gpu/kernel.js';
import type { ModelConfig } from '../../src/model/config.js';
import { Gpt } from '../../src/model/gpt.js';
import { GridArena } from '../../src/model/grid.js';
import { ParameterArena, ParameterLayout } from '../../src/model/layout.js';
import { always, type MatmulVariant } from '../../src/model/matmul-plan.js';
import { defaultPlan, type Plan, withKeptSums } from '../../src/model/plan.js';
import type { BatchShape } from '../../src/model/shape.js';
import { ExactSums } from '../../src/model/sums.js';
import { loadShaders } from '../../src/node/shaders.js';
import { GpuHarness } from '../gpu/harness.js';
import { slowTest } from '../slow.js';
import { sampled } from '../thorough.js';
import { planted } from './planted.js';

let gpu: Gpu;
beforeAll(async () => {
  gpu = (await GpuHarness.open()).gpu;
});

afterAll(() => gpu.device.destroy());

const MODEL: ModelConfig = {
  vocabSize: 67,
  context: 24,
  width: 24,
  layers: 1,
  heads: 2,
  tie: true,
  qkvBias: true,
};
const SHAPE: BatchShape = { batch: 2, context: 24, dropout: 0, precision: 'portable', wire: 'low' };

/** Frees what was built before. */
async function graph(
  model: ModelConfig,
  shape: BatchShape,
  plan: Partial<Plan> = {},
  kernels = new KernelCache(gpu, loadShaders()),
): Promise<Gpt> {
  gpu.releaseAll();
  const whole = { ...defaultPlan(gpu.adapter), ...plan };
  const layout = new ParameterLayout(model, whole);
  const weights = await ParameterArena.allocate(gpu, layout, 'weights');
  const sums = await ExactSums.allocate(gpu, layout, await GridArena.allocate(gpu, layout));
  return Gpt.build(kernels, shape, whole, weights, sums);
}

const lineOf = (mismatch: Mismatch | undefined) => mismatch && describeMismatch(mismatch);

describe('the check of the low wire passes on this adapter', () => {
  test('for a tied model, by kernels that know the wire', async () => {
    const checked: CheckedPipelines = new Set();
    expect(lineOf(await checkGraph(await graph(MODEL, SHAPE), 1, checked))).toBeUndefined();
    const low = [...checked]
      .map((pipeline) => JSON.parse(pipeline))
      .filter(([, , , defines]) => defines.includes('low'));
    const entries = new Set(low.map(([, entry]) => entry));
    expect([...entries].sort()).toEqual(['bias', 'fixed', 'norm', 'positionGradient', 'tokenGradient']);
  });

  test('in a stack, with odd sizes', async () => {
    const model = { ...MODEL, tie: false, qkvBias: false, vocabSize: 61, width: 18, context: 11 };
    const shape = { ...SHAPE, context: 11, stack: 3 };
    expect(lineOf(await checkGraph(await graph(model, shape), 2))).toBeUndefined();
  });

  slowTest('where K is long, products are tall and the head is cut into windows and chunks', async () => {
    const model = { ...MODEL, width: 128, vocabSize: 530 };
    const plan = { windowValues: 2 ** 16, slabValues: 2 ** 20, logitsValues: 2 ** 14 };
    expect(lineOf(await checkGraph(await graph(model, { ...SHAPE, stack: 2 }, plan), 3))).toBeUndefined();
  });

  test.each(sampled<MatmulVariant>(['plain', 'tile64x64/k4', 'tile32x32', 'register4x4'], 4))(
    'with matrix products by %s, fast and with sums kept in order',
    async (variant) => {
      const plan = { ...defaultPlan(gpu.adapter), matmul: always(variant), rowLanes: 64, attention: 'tile' } as const;
      for (const one of [plan, withKeptSums(plan)])
        expect(lineOf(await checkGraph(await graph({ ...MODEL, width: 96 }, SHAPE, one), 4))).toBeUndefined();
    },
  );

  slowTest("with the adapter's own kernels that keep their sums in order", async () => {
    const plan = withKeptSums(defaultPlan(gpu.adapter));
    expect(lineOf(await checkGraph(await graph({ ...MODEL, width: 64 }, SHAPE, plan), 5))).toBeUndefined();
  });

  test('for the updates, alone and by an owner, the grid and the moves', async () => {
    const before = gpu.memory.allocatedBytes;
    const checked: CheckedPipelines = new Set();
    expect(lineOf(await checkUpdates(new KernelCache(gpu, loadShaders()), 1, 'low', checked))).toBeUndefined();
    expect(gpu.memory.allocatedBytes).toBeLessThanOrEqual(before + 2 ** 22);
    const kernels = [...checked]
      .map((pipeline) => JSON.parse(pipeline))
      .map(([, entry, , defines]) => [entry, ...defines].join(' '));
    expect([...new Set(kernels)].sort()).toEqual([
      'advance portable',
      'apply portable',
      'chunkSquares low owner portable',
      'chunkSquares low portable',
      'exponents portable',
      'update low owner portable',
      'update low portable',
    ]);
  });
});

describe('a planted fault is found, and named', () => {
  const GRAPH_FAULTS: readonly [what: string, texts: () => ShaderTexts][] = [
    [
      'random bits of the neighbour',
      () => planted('rounding_low', '(gridPlace.x + at) % 4u', '(gridPlace.x + at + 1u) % 4u'),
    ],
    [
      'random bits of four values in another order',
      () =>
        planted(
          'rounding_low',
          'vec4u(words & vec2u(0xffffu), words >> vec2u(16u))',
          'vec4u(words >> vec2u(16u), words & vec2u(0xffffu))',
        ),
    ],
    [
      'the largest random bit lost',
      () => planted('rounding_low', '(random >> (vec4u(16u) - a))', '((random & vec4u(0x7fffu)) >> (vec4u(16u) - a))'),
    ],
    [
      'rounding to nearest',
      () => planted('rounding_low', '(random >> (vec4u(16u) - a))', '((vec4u(0x8000u)) >> (vec4u(16u) - a))'),
    ],
    [
      'the exponent of the next block',
      () => planted('rounding_low', '(gridPlace.y + at) / 64u', '(gridPlace.y + at + 1u) / 64u'),
    ],
    ['an exponent that is off by one', () => planted('rounding_low', 'vec4i(150 + exponent)', 'vec4i(151 + exponent)')],
    [
      'a slot of the first micro-batch for all',
      () => planted('rounding_low', '(gridPlace.z + product) * rounding.sequences', '0u'),
    ],
    [
      'the place of another block',
      () => planted('rounding_low', '(gridPlace.x + at) / 4u', '(gridPlace.x + at + 64u) / 4u'),
    ],
  ];
  test.each(sampled(GRAPH_FAULTS, 4))('%s', async (_what, texts) => {
    const shape = { ...SHAPE, stack: 2 };
    const mismatch = await checkGraph(await graph(MODEL, shape, {}, new KernelCache(gpu, texts())), 1);
    expect(lineOf(mismatch)).toMatch(
      /(fixed|bias|norm|Gradient).* gives [0-9a-f]{16} at low, high .+, not [0-9a-f]{16}, from /,
    );
  });

  const UPDATE_FAULTS: readonly [what: string, texts: () => ShaderTexts, kernel: string, place: RegExp][] = [
    [
      'moves that are rounded half up',
      () => planted('update_low', 'keep4(keep4(wanted + NEAREST) - NEAREST)', 'floor(wanted + vec4f(0.5))'),
      'adamw.update',
      /^weights/,
    ],
    [
      'moves up to 8',
      () => planted('update_low', 'vec4f(-3.0), vec4f(3.0)', 'vec4f(-4.0), vec4f(4.0)'),
      'adamw.update',
      /^weights/,
    ],
    [
      'moves of an owner in another order',
      () => planted('update_low', 'vec4u(0u, 4u, 8u, 12u)', 'vec4u(4u, 0u, 8u, 12u)'),
      'adamw.update',
      /^moves of/,
    ],
    [
      "an owner's grid in the next word",
      () => planted('update_low', '{ moves[word] = bytes; }', '{ moves[word ^ 1u] = bytes; }'),
      'adamw.update',
      /^moves, grid/,
    ],
    [
      'rounding errors of all values',
      () => planted('update_low', 'f32(4u * touched)', '64.0'),
      'adamw.update',
      /^squares, rounding errors/,
    ],
    [
      'gradients in units of 2^-40',
      () => planted('gradients_low', 'gridExponent(gridByteAt(block)) + FIXED_POINT_EXPONENT', '0'),
      'gradient_norm.chunkSquares',
      /^squares/,
    ],
    [
      'high words of an owner with the low ones',
      () => planted('gradients_low', 'return low[i + arrayLength(&low) / 2u];', 'return low[i];'),
      'gradient_norm.chunkSquares',
      /^squares/,
    ],
    [
      'exponents for a coarser grid',
      () => planted('grid_exponent', 'GRAIN = -1', 'GRAIN = 0'),
      'adamw.update',
      /^grid/,
    ],
    ['decay that is forgotten', () => planted('grid_exponent', '(byte & 128u) |', ''), 'adamw.update', /^grid/],
    [
      'moments that are summed otherwise',
      () => planted('grid_exponent', 'keep(keep(v.x + v.y) + keep(v.z + v.w))', 'keep(v.x + v.y)'),
      'adamw.update',
      /^grid/,
    ],
    [
      'streams of a packed block that start late',
      () => planted('unpack_low', 'bits * (first % BLOCK_VECTORS)', 'bits * (first % BLOCK_VECTORS) + 1u'),
      'unpack_low.apply',
      /^weights/,
    ],
    [
      'moves without a sign',
      () =>
        planted(
          'moves',
          'bitcast<vec4i>(vec4u(bits) << vec4u(28u, 24u, 20u, 16u)) >> vec4u(28u)',
          '(vec4u(bits) << vec4u(28u, 24u, 20u, 16u)) >> vec4u(28u)',
        ),
      'unpack_low.advance',
      /^weights/,
    ],
    [
      'a block less in the grid of a state that is read',
      () => planted('grid', 'arrayLength(&v) / 16u - 4u * word)', 'arrayLength(&v) / 16u - 4u * word - 1u)'),
      'grid.exponents',
      /^grid/,
    ],
  ];
  test.each(sampled(UPDATE_FAULTS, 5))('%s', async (_what, texts, kernel, place) => {
    const mismatch = await checkUpdates(new KernelCache(gpu, texts()), 1, 'low');
    expect(mismatch).toMatchObject({ kernel, place: expect.stringMatching(place) });
  });
});
