import { beforeAll, describe, expect, test } from 'vitest';
import type { ModelConfig } from '../../src/model/config.js';
import { Decoder } from '../../src/model/decoder.js';
import { Gpt, IGNORED_TARGET, type MicroBatch } from '../../src/model/gpt.js';
import { ParameterArena, ParameterLayout, sparsePieces } from '../../src/model/layout.js';
import { parameters } from '../../src/model/parameters.js';
import { defaultPlan, type Plan } from '../../src/model/plan.js';
import { type BatchShape, headChunks, logitsStride } from '../../src/model/shape.js';
import { possibleStacks } from '../../src/model/stack.js';
import { ExactSums } from '../../src/model/sums.js';
import { deriveKey, uniformAt } from '../../src/util/random.js';
import { GpuHarness, noise } from '../gpu/harness.js';
import { agree } from '../reference/agree.js';
import { backward, forward } from '../reference/gpt.js';
import { sampled } from '../thorough.js';
import { readGradient } from './harness.js';

let harness: GpuHarness;
beforeAll(async () => {
  harness = await GpuHarness.open();
});

/** Weights large enough for every part of the model to matter: gains around 1, all else within 0.5. */
function someWeights(config: ModelConfig): Map<string, Float32Array> {
  return new Map(
    parameters(config).map(({ name, kind, size }, i) => [
      name,
      noise(size, 100 + i, 0.5).map((v) => (kind === 'gain' ? v + 1 : v)),
    ]),
  );
}

function someTokens(config: ModelConfig, count: number, seed: number): Uint32Array {
  const key = deriveKey(seed, 98);
  return Uint32Array.from({ length: count }, (_, i) => Math.floor(uniformAt(key, i) * config.vocabSize));
}

/** Two micro-batches with consecutive slots from 3 on and some ignored targets. */
function microBatches(config: ModelConfig, shape: BatchShape): MicroBatch[] {
  return [0, 1].map((i) => {
    const rows = shape.batch * shape.context;
    const targets = someTokens(config, rows, 20 + i);
    targets[rows - 2] = IGNORED_TARGET;
    return { tokens: someTokens(config, rows, 10 + i), targets, firstSlot: 3 + i * shape.batch };
  });
}

interface Built {
  readonly gpt: Gpt;
  readonly weights: ParameterArena;
  readonly sums: ExactSums;
  readonly plan: Plan;
}

async function build(config: ModelConfig, shape: BatchShape, changes: Partial<Plan>): Promise<Built> {
  const plan = { ...defaultPlan(harness.gpu.adapter), ...changes };
  const layout = new ParameterLayout(config, plan);
  const weights = await ParameterArena.allocate(harness.gpu, layout, 'weights');
  for (const [name, values] of someWeights(config)) weights.write(harness.gpu, name, values);
  const sums = await ExactSums.allocate(harness.gpu, layout);
  return { gpt: await Gpt.build(harness.kernels, shape, plan, weights, sums), weights, sums, plan };
}

interface Case {
  readonly config: ModelConfig;
  readonly shape: BatchShape;
  readonly plan: Partial<Plan>;
  readonly windows: number;
  readonly slabs: number;
  readonly chunks: number;
}

// No size is a multiple of 4; rows and columns are one past what threads and tiles divide.
const AWKWARD: Omit<Case, 'plan' | 'windows' | 'slabs' | 'chunks'> = {
  config: { vocabSize: 701, context: 7, width: 15, layers: 2, heads: 3, tie: false, qkvBias: true },
  shape: { batch: 11, context: 7, dropout: 0.3 },
};

const CASES: Record<string, Case> = {
  'an untied model of width 15': { ...AWKWARD, plan: {}, windows: 1, slabs: 1, chunks: 1 },
  'the same in windows, slabs, row chunks and column chunks': {
    ...AWKWARD,
    plan: { windowValues: 4 * 77 * 15, slabValues: 8192, logitsValues: 64 * 704, columnRows: 10 },
    windows: 3,
    slabs: 4,
    chunks: 2,
  },
  'windows and row chunks on aligned rows': {
    config: { vocabSize: 1500, context: 8, width: 15, layers: 1, heads: 3, tie: false, qkvBias: true },
    shape: { batch: 16, context: 8, dropout: 0.3 },
    plan: { windowValues: 8 * 128 * 15, slabValues: 32768, logitsValues: 64 * 1536, columnRows: 50 },
    windows: 2,
    slabs: 2,
    chunks: 2,
  },
  'a tied model of width 12': {
    config: { vocabSize: 67, context: 9, width: 12, layers: 1, heads: 3, tie: true, qkvBias: false },
    shape: { batch: 2, context: 9, dropout: 0.5 },
    plan: { rowLanes: 64, rowsPerGroup: 1 },
    windows: 1,
    slabs: 1,
    chunks: 1,
  },
};

describe.each(sampled(Object.entries(CASES), 4))('%s', (_, { config, shape, plan: changes, ...cut }) => {
  let built: Built;
  beforeAll(async () => {
    built = await build(config, shape, changes);
  });

  test('the model is cut as this test means it', () => {
    const { layout } = built.weights;
    expect(layout.piecesOf('wte.weight').length).toBe(cut.windows);
    expect(layout.slabSizes.length).toBe(cut.slabs);
    expect(headChunks(config, shape, built.plan).length).toBe(cut.chunks);
  });

  test('the model has the loss and the gradients of float64, with dropout, summed over micro-batches', async () => {
    const [seed, step, tokenWeight] = [2 ** 40 + 3, 12, 1 / 50];
    const { gpt, sums } = built;
    const want = new Map(parameters(config).map(({ name, size }) => [name, new Float64Array(size)]));
    let wantLoss = 0;
    for (const batch of microBatches(config, shape)) {
      gpt.submitGradient(batch, { seed, step, tokenWeight });
      const dropout = { p: shape.dropout, seed, step, firstSlot: batch.firstSlot };
      const pass = forward(config, someWeights(config), batch.tokens, batch.targets, { dropout });
      wantLoss += pass.lossSum;
      for (const [name, gradient] of backward(pass, tokenWeight)) {
        const sum = want.get(name) as Float64Array;
        for (let i = 0; i < sum.length; i++) sum[i] += gradient[i];
      }
    }
    const { lossSum, nonFinite } = await sums.takeReport(harness.gpu);
    expect(nonFinite).toEqual([]);
    expect(Math.abs(lossSum / wantLoss - 1)).toBeLessThan(1e-6);
    for (const [name, gradient] of want) agree(await readGradient(harness.gpu, sums, name), gradient, 2e-5, name);
    sums.clear(harness.gpu);
  });

  test('the model has the same sums and losses, bit by bit, from micro-batches at once, whatever the sums held', async () => {
    const { gpu } = harness;
    const context = { seed: 5, step: 2, tokenWeight: 1 / 50 };
    const names = parameters(config).map((p) => p.name);
    const batches = microBatches(config, shape);
    const result = async ({ sums }: Built) => {
      const gradients: Record<string, Float64Array> = {};
      for (const name of names) gradients[name] = await readGradient(gpu, sums, name);
      return { gradients, ...(await sums.takeReport(gpu)) };
    };
    for (const batch of batches) built.gpt.submitGradient(batch, context);
    const wanted = await result(built);
    for (const batch of batches) built.gpt.submitLoss(batch);
    const { lossFixed } = await built.sums.takeReport(gpu);
    built.sums.clear(gpu);

    const possible = possibleStacks(config, shape, built.plan, 2);
    expect(possible).toEqual(cut.chunks > 1 && (shape.batch * shape.context) % 64 !== 0 ? [1] : [2, 1]);
    const stacked = await build(config, { ...shape, stack: possible[0] }, changes);
    const { gpt, sums } = stacked;
    gpt.submitGradient(batches[1], context);
    await sums.takeReport(gpu);
    for (const { parameter } of sparsePieces(sums.low.layout))
      for (const arena of [sums.low, sums.high]) arena.write(gpu, parameter.name, new Float32Array(parameter.size));
    for (let i = 0; i < 2; ) {
      const all = gpt.stackFrom(batches, i);
      gpt.submitGradient(all, context, i > 0);
      i += all.length;
    }
    expect(await result(stacked)).toEqual(wanted);
    if (gpt.stack === 2) {
      gpt.submitLoss(batches);
      expect((await sums.takeReport(gpu)).lossFixed).toBe(lossFixed);
    }
  });

  test('the model has the loss of float64 without dropout in evaluation', async () => {
    let want = 0;
    for (const batch of microBatches(config, shape)) {
      built.gpt.submitLoss(batch);
      want += forward(config, someWeights(config), batch.tokens, batch.targets).lossSum;
    }
    const { lossSum } = await built.sums.takeReport(harness.gpu);
    expect(Math.abs(lossSum / want - 1)).toBeLessThan(1e-6);
  });

  test('the model refuses a micro-batch of another size', () => {
    const [batch] = microBatches(config, shape);
    expect(() => built.gpt.submitLoss({ ...batch, tokens: batch.tokens.slice(1) })).toThrow(RangeError);
  });

  test('the model decodes token by token to the logits of the whole sequence', async () => {
    const { vocabSize: V, context: T } = config;
    const decoder = await Decoder.build(harness.kernels, built.plan, built.weights);
    const tokens = someTokens(config, T, 30);
    const want = forward(config, someWeights(config), tokens, tokens).logits;
    const decoded: Float32Array[] = [];
    for (const [t, token] of tokens.entries()) {
      decoder.push(token);
      decoded.push(await decoder.logits());
      agree(decoded[t], want.subarray(t * V, (t + 1) * V), 1e-5, `token ${t}`);
    }
    expect(decoder.length).toBe(T);
    expect(() => decoder.push(0)).toThrow(RangeError);

    // Older contents of the cache do not matter.
    decoder.reset();
    for (const token of tokens.subarray(0, 2)) decoder.push(token);
    expect(await decoder.logits()).toEqual(decoded[1]);
  });
});

test('the logits of the whole pass lie a stride of whole windows apart', async () => {
  const { config, shape } = CASES['a tied model of width 12'];
  const { gpt, sums } = await build(config, shape, CASES['a tied model of width 12'].plan);
  const [batch] = microBatches(config, shape);
  gpt.submitLoss(batch);
  const padded = new Float32Array(await harness.gpu.read(gpt.view('logits')));
  const { vocabSize: V } = config;
  const logits = Array.from(
    { length: gpt.rows * V },
    (_, i) => padded[Math.floor(i / V) * logitsStride(config) + (i % V)],
  );
  agree(logits, forward(config, someWeights(config), batch.tokens, batch.targets).logits, 1e-5);
  await sums.takeReport(harness.gpu);
});

test('micro-batches computed at once take no other pipelines than one by one', async () => {
  const { config, shape } = CASES['a tied model of width 12'];
  const plan = { rowLanes: 1, rowsPerGroup: 8 };
  await build(config, shape, plan);
  const { pipelineCount } = harness.kernels;
  await build(config, { ...shape, stack: 5 }, plan);
  expect(harness.kernels.pipelineCount).toBe(pipelineCount);
});
