import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { describeMismatch, type Mismatch } from '../../src/check/checking.js';
import type { CheckedPipelines } from '../../src/check/lists.js';
import { checkGraph } from '../../src/check/portable-check.js';
import { provenEngine } from '../../src/check/proven.js';
import { portableVerdict } from '../../src/check/small-run.js';
import { checkUpdates } from '../../src/check/update-check.js';
import type { Gpu } from '../../src/gpu/device.js';
import { KernelCache, type ShaderTexts } from '../../src/gpu/kernel.js';
import { ATTENTION_VARIANTS } from '../../src/model/attention.js';
import type { ModelConfig } from '../../src/model/config.js';
import { Gpt } from '../../src/model/gpt.js';
import { ParameterArena, ParameterLayout } from '../../src/model/layout.js';
import { always, type MatmulVariant } from '../../src/model/matmul-plan.js';
import { defaultPlan, missingFor, type Plan, withKeptSums } from '../../src/model/plan.js';
import type { BatchShape } from '../../src/model/shape.js';
import { ExactSums } from '../../src/model/sums.js';
import { loadShaders } from '../../src/node/shaders.js';
import { GpuHarness } from '../gpu/harness.js';
import { slowTest } from '../slow.js';
import { sampled } from '../thorough.js';
import { planted, wrongFast } from './planted.js';

let gpu: Gpu;
beforeAll(async () => {
  gpu = (await GpuHarness.open()).gpu;
});

afterAll(() => gpu.device.destroy());

const MODEL: ModelConfig = {
  vocabSize: 67,
  context: 24,
  width: 24,
  layers: 2,
  heads: 2,
  tie: true,
  qkvBias: true,
};
const SHAPE: BatchShape = { batch: 2, context: 24, dropout: 0.1, precision: 'portable' };

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
  const sums = await ExactSums.allocate(gpu, layout);
  return Gpt.build(kernels, shape, whole, weights, sums);
}

const lineOf = (mismatch: Mismatch | undefined) => mismatch && describeMismatch(mismatch);

describe('the check passes on this adapter', () => {
  test('for a tied model with dropout, and it has looked at every kernel', async () => {
    const checked: CheckedPipelines = new Set();
    expect(lineOf(await checkGraph(await graph(MODEL, SHAPE), 1, checked))).toBeUndefined();
    const entries = new Set([...checked].map((pipeline) => JSON.parse(pipeline)[1]));
    expect([...entries].sort()).toMatchInlineSnapshot(`
      [
        "backwardDropout",
        "backwardKeyDropout",
        "backwardQueryDropout",
        "bias",
        "convert",
        "fixed",
        "forward",
        "forwardDropout",
        "gradient",
        "loss",
        "norm",
        "positionGradient",
        "store",
        "storeDropout",
        "storeGelu",
        "sumLosses",
        "tokenGradient",
      ]
    `);
  });

  slowTest('for an untied model without dropout or biases of queries, in a stack, with odd sizes', async () => {
    const model = { ...MODEL, tie: false, qkvBias: false, vocabSize: 61, width: 18, context: 11 };
    const shape = { ...SHAPE, dropout: 0, context: 11, stack: 3 };
    expect(lineOf(await checkGraph(await graph(model, shape), 2))).toBeUndefined();
  });

  test('where K is long, products are tall and the head is cut into windows and chunks', async () => {
    const model = { ...MODEL, width: 128, vocabSize: 530, layers: 1 };
    const plan = { windowValues: 2 ** 16, slabValues: 2 ** 20, logitsValues: 2 ** 14 };
    expect(lineOf(await checkGraph(await graph(model, { ...SHAPE, context: 24, stack: 2 }, plan), 3))).toBeUndefined();
  });

  test.each(sampled<MatmulVariant>(['tile64x64/k4', 'tile32x32', 'register4x4', 'plain'], 4))(
    'with matrix products by %s, fast and with sums kept in order',
    async (variant) => {
      const model = { ...MODEL, width: 96, layers: 1 };
      const plan = { ...defaultPlan(gpu.adapter), matmul: always(variant), rowLanes: 64, attention: 'tile' } as const;
      for (const one of [plan, withKeptSums(plan)])
        expect(lineOf(await checkGraph(await graph(model, SHAPE, one), 4))).toBeUndefined();
    },
  );

  slowTest("with the adapter's own kernels that keep their sums in order", async () => {
    const plan = withKeptSums(defaultPlan(gpu.adapter));
    expect(lineOf(await checkGraph(await graph({ ...MODEL, width: 64 }, SHAPE, plan), 5))).toBeUndefined();
  });

  test('for the updates', async () => {
    const before = gpu.memory.allocatedBytes;
    expect(lineOf(await checkUpdates(new KernelCache(gpu, loadShaders()), 1))).toBeUndefined();
    expect(gpu.memory.allocatedBytes).toBeLessThanOrEqual(before + 2 ** 22);
  });

  slowTest('for each kernel of attention that it can run', async () => {
    for (const attention of ATTENTION_VARIANTS) {
      const plan = { ...defaultPlan(gpu.adapter), attention };
      if (missingFor(plan, gpu.adapter) !== undefined) continue;
      expect(
        lineOf(await checkGraph(await graph(MODEL, { ...SHAPE, dropout: 0 }, plan), 6)),
        attention,
      ).toBeUndefined();
    }
  });
});

describe('a planted fault is found, and named', () => {
  const FAULTS: readonly [what: string, texts: () => ShaderTexts, operation: string, kernel: RegExp][] = [
    [
      'another constant in GELU',
      () => planted('gelu_portable', 'GELU_CUBIC = 0.102943242', 'GELU_CUBIC = 0.1029440'),
      'linear',
      /storeGelu/,
    ],
    [
      'another constant in its derivative',
      () => planted('gelu_portable', 'GELU_SLOPE_SQUARE = 0.214064449', 'GELU_SLOPE_SQUARE = 0.216'),
      'linear input gradient',
      /store$/,
    ],
    [
      'weights that are cut off, not rounded',
      () => planted('portable', '(bits + vec4u(0x7ffu) + ((bits >> vec4u(12u)) & vec4u(1u)))', 'bits'),
      'round_weights.convert',
      /round_weights/,
    ],
    [
      'sums of attention in another order',
      () =>
        planted(
          'attention_portable',
          'plusProduct4(plusProduct4(o, s.x, r.a), s.y, r.b)',
          'plusProduct4(plusProduct4(o, s.y, r.b), s.x, r.a)',
        ),
      'attention.backwardQuery',
      /attention/,
    ],
    [
      'chunks of rows that are a row too short',
      () => planted('columns', 'start + ROWS)', 'start + ROWS - 1u)'),
      'columns.norm',
      /columns.norm/,
    ],
    [
      'a loss in another unit',
      () => planted('softmax_portable', 'LN2 = 0.693147182', 'LN2 = 0.693147242'),
      'cross_entropy.gradient',
      /cross_entropy/,
    ],
  ];
  test.each(sampled(FAULTS, 2))('%s', async (_what, texts, operation, kernel) => {
    const mismatch = await checkGraph(await graph(MODEL, SHAPE, {}, new KernelCache(gpu, texts())), 1);
    expect(mismatch?.operation).toBe(operation);
    expect(mismatch?.kernel).toMatch(kernel);
    expect(lineOf(mismatch)).toMatch(/ gives [0-9a-f]{8,16} at .+, not [0-9a-f]{8,16}, from /);
  });

  test('a moment of AdamW', async () => {
    const texts = planted('adamw', 'settle4(settle4(v[i] * step.beta2)', 'keep4(keep4(v[i] * 0.9500001)');
    const mismatch = await checkUpdates(new KernelCache(gpu, texts), 1);
    expect(mismatch).toMatchObject({ operation: 'adamw.update', place: expect.stringMatching(/^v /) });
  });
});

describe('an adapter whose fast sums are wrong', () => {
  test('takes those that are kept in order', async () => {
    const kernels = new KernelCache(gpu, wrongFast());
    const proven = await provenEngine(
      defaultPlan(gpu.adapter),
      (plan) => graph(MODEL, SHAPE, plan, kernels),
      (gpt) => checkGraph(gpt, 1),
      () => gpu.releaseAll(),
    );
    expect(proven.fast?.operation).toBe('linear');
    expect(lineOf(proven.mismatch)).toBeUndefined();
    expect(proven.plan).toEqual(withKeptSums(defaultPlan(gpu.adapter)));
    expect(proven.engine.plan).toEqual(proven.plan);
  });

  slowTest('is portable to doctor, and one whose every kernel is wrong is not', async () => {
    gpu.releaseAll();
    const plan = defaultPlan(gpu.adapter);
    expect(await portableVerdict(gpu, loadShaders(), plan)).toEqual({ portable: true });
    expect(await portableVerdict(gpu, wrongFast(), plan)).toEqual({
      portable: true,
      fastKernels: expect.stringMatching(/^linear/),
    });
    const wrong = planted('gelu_portable', 'GELU_CUBIC = 0.102943242', 'GELU_CUBIC = 0.11');
    expect(await portableVerdict(gpu, wrong, plan)).toEqual({
      portable: false,
      difference: expect.stringMatching(/^linear .*storeGelu/),
    });
  });
});
