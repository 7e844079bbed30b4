import { beforeAll, describe, expect, test } from 'vitest';
import { Gpu } from '../../src/gpu/device.js';
import { memoryBudget } from '../../src/model/activations.js';
import type { MicroBatch } from '../../src/model/gpt.js';
import { always } from '../../src/model/matmul-plan.js';
import type { Plan } from '../../src/model/plan.js';
import { headPasses } from '../../src/model/shape.js';
import { openDawn } from '../../src/node/dawn.js';
import { type Golden, loadGolden } from '../reference/golden.js';
import { sampled } from '../thorough.js';
import { engineOptions, type GoldenEngineOptions, goldenEngine, goldenMicroBatches, stateHash } from './fixture.js';

let gpu: Gpu;
beforeAll(async () => {
  gpu = await Gpu.open(openDawn());
});

/** A global batch of 12 sequences, cut into micro-batches of `size`. */
function globalBatch(golden: Golden, step: number, size: number): MicroBatch[] {
  const parts = Array.from({ length: 12 / golden.batch }, (_, i) => 7 * step + i);
  const all = parts.flatMap((part) => goldenMicroBatches(golden, part, size));
  return all.map((batch, i) => ({ ...batch, firstSlot: i * size }));
}

interface Outcome {
  readonly hash: string;
  readonly losses: readonly number[];
  readonly bytes: number;
}

type Order = (batches: MicroBatch[]) => MicroBatch[];

/** Three updates, an evaluation of an incomplete number of micro-batches after each. */
async function train(golden: Golden, options: GoldenEngineOptions, order: Order = (b) => b): Promise<Outcome> {
  gpu.releaseAll();
  const engine = await goldenEngine(gpu, golden, options);
  const bytes = gpu.memory.allocatedBytes;
  const losses: number[] = [];
  for (let step = 1; step <= 3; step++) {
    const batches = globalBatch(golden, step, options.microBatch);
    const { loss, gradNorm } = await engine.step(order(batches), step, 3, 1e-2);
    losses.push(loss, gradNorm, await engine.evaluate(batches.slice(1), 4 * golden.config.context));
  }
  return { hash: await stateHash(engine), losses, bytes };
}

/** Kernels without subgroups, except for attention, whose kernels know no stacks. */
const ANYWHERE: Partial<Plan> = { matmul: always('tile64x64'), rowLanes: 64, rowsPerGroup: 1 };

type Stacked = [string, 'tied' | 'untied', Omit<GoldenEngineOptions, 'stack'>, readonly number[]];

const STACKED: readonly Stacked[] = [
  ['tied, dropout', 'tied', { microBatch: 1, dropout: 0.2 }, [2, 12]],
  ['untied, two sequences each, clipped', 'untied', { microBatch: 2, dropout: 0.2, clip: 0.5 }, [3]],
  ['layers recomputed, kernels for any adapter', 'tied', { microBatch: 1, recompute: true, plan: ANYWHERE }, [4]],
  ['float16', 'untied', { microBatch: 1, precision: 'f16' }, [4]],
];

describe.each(sampled(STACKED, 4))('micro-batches computed at once: %s', (_, name, options, stacks) => {
  const golden = loadGolden(name);
  let single: Outcome;
  const runs = () => options.precision !== 'f16' || gpu.has('shader-f16');
  beforeAll(async () => {
    if (runs()) single = await train(golden, options);
  });

  test.for(stacks)(
    '%d micro-batches at a time give the bits of one at a time, in the memory of the budget',
    async (stack, { skip }) => {
      if (!runs()) return skip('this adapter has no float16');
      const { hash, losses, bytes } = await train(golden, { ...options, stack });
      expect(losses).toEqual(single.losses);
      expect(hash).toBe(single.hash);
      const budget = (s: number) => {
        const { model, shape, plan } = engineOptions(gpu, golden, { ...options, stack: s });
        return memoryBudget(model, shape, plan).totalBytes;
      };
      expect(bytes - single.bytes).toBe(budget(stack) - budget(1));
      expect(bytes).toBeGreaterThan(single.bytes);
    },
  );
});

describe('a stack of two', () => {
  const golden = loadGolden('tied');
  const options = { microBatch: 1, dropout: 0.2, stack: 2 };

  test('a stack of two takes the batch in any order', async () => {
    const orders: Order[] = [(b) => b, (b) => b.toReversed(), (b) => [...b.slice(5), ...b.slice(0, 5)]];
    const hashes = new Set<string>();
    for (const order of orders) hashes.add((await train(golden, options, order)).hash);
    expect(hashes.size).toBe(1);
  });

  test('a stack of two computes one by one what has no neighbours, and refuses to stack it', async () => {
    const apart: Order = (batches) => batches.map((batch, i) => ({ ...batch, firstSlot: 3 * i }));
    const stacked = await train(golden, options, apart);
    expect(stacked.hash).toBe((await train(golden, { ...options, stack: 1 }, apart)).hash);

    const { gpt } = await goldenEngine(gpu, golden, options);
    const context = { seed: 1, step: 1, tokenWeight: 1 };
    const batches = globalBatch(golden, 0, 1);
    expect(() => gpt.submitGradient(apart(batches).slice(0, 2), context)).toThrow('must follow one another');
    expect(() => gpt.submitGradient(batches.slice(0, 3), context)).toThrow('a stack of 3');
  });

  test('a stack of two starts each step anew: a step that failed leaves nothing in the next', async () => {
    gpu.releaseAll();
    const engine = await goldenEngine(gpu, golden, options);
    const spoiled = globalBatch(golden, 0, 1);
    engine.optimizer.weights.write(gpu, 'ln_f.bias', new Float32Array(golden.config.width).fill(1e9));
    await expect(engine.step(spoiled, 1, 3, 1e-2)).rejects.toThrow('not finite');
    const again = await goldenEngine(gpu, golden, options);
    engine.optimizer.weights.write(gpu, 'ln_f.bias', await again.optimizer.weights.read(gpu, 'ln_f.bias'));
    for (const own of [engine, again]) await own.step(globalBatch(golden, 1, 1), 1, 3, 1e-2);
    expect(await stateHash(engine)).toBe(await stateHash(again));
  });
});

test('whole micro-batches share a pass of the head as far as a binding reaches', () => {
  const config = { vocabSize: 100, context: 64, width: 16, layers: 1, heads: 1, tie: true, qkvBias: true };
  const passes = (stack: number, windowValues: number, logitsValues = 2 ** 24) => {
    const { plan } = engineOptions(gpu, loadGolden('tied'), { microBatch: 1, plan: { windowValues, logitsValues } });
    return headPasses(config, { batch: 2, context: 64, dropout: 0, stack }, plan);
  };
  // Logits of a micro-batch are 128 rows of 128 values.
  expect(passes(4, 2 ** 20)).toEqual([{ start: 0, rows: 128, stack: 4 }]);
  expect(passes(4, 3 * 2 ** 14)).toEqual([
    { start: 0, rows: 128, stack: 2 },
    { start: 256, rows: 128, stack: 2 },
  ]);
  expect(passes(2, 2 ** 20, 64 * 128).map(({ start, rows, stack }) => [start, rows, stack])).toEqual([
    [0, 64, 1],
    [64, 64, 1],
    [128, 64, 1],
    [192, 64, 1],
  ]);
});
