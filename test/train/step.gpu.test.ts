import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { Gpu } from '../../src/gpu/device.js';
import { memoryBudget } from '../../src/model/activations.js';
import { IGNORED_TARGET, type MicroBatch } from '../../src/model/gpt.js';
import { openDawn } from '../../src/node/dawn.js';
import type { Engine, StepOutcome } from '../../src/train/engine.js';
import { readGradient } from '../model/harness.js';
import { gradientNorm } from '../reference/adamw.js';
import { agree } from '../reference/agree.js';
import { type Golden, loadGolden } from '../reference/golden.js';
import { engineOptions, goldenEngine, goldenMicroBatches, restart, stateHash } from './fixture.js';

const OPTIONS = { microBatch: 1, dropout: 0.1 } as const;
const SEED = 5;
const RATE = 1e-3;

let gpu: Gpu;
let golden: Golden;
let engine: Engine;
beforeAll(async () => {
  gpu = await Gpu.open(openDawn());
  golden = loadGolden('tied');
  engine = await goldenEngine(gpu, golden, OPTIONS);
});

/** A global batch of 6 micro-batches. */
function globalBatch(step: number): MicroBatch[] {
  const parts = [3 * step, 3 * step + 1, 3 * step + 2].flatMap((part) => goldenMicroBatches(golden, part, 1));
  return parts.map((batch, firstSlot) => ({ ...batch, firstSlot }));
}

interface RunOptions {
  readonly from?: number;
  readonly seed?: number;
  readonly order?: (batches: MicroBatch[]) => MicroBatch[];
}

/** Three updates with dropout; returns the hash of the state. */
async function run(own: Engine, { seed = SEED, order = (b) => b }: RunOptions = {}): Promise<string> {
  restart(own, golden);
  for (let step = 1; step <= 3; step++) await own.step(order(globalBatch(step)), step, seed, RATE);
  return stateHash(own);
}

describe('memory', () => {
  test('the memory held by an engine, its sampling graph and its checkpoints is what the budget says', async () => {
    // Must come first: later engines share the device.
    await engine.step(globalBatch(0), 1, SEED, RATE);
    await engine.evaluate(globalBatch(0), 6 * golden.config.context);
    (await engine.sampler()).push(3);
    await stateHash(engine);
    const { model, shape, plan } = engineOptions(gpu, golden, OPTIONS);
    const { totalBytes } = memoryBudget(model, shape, plan);
    // Not in the budget: 256 bytes for each tensor in the report and in its two copies for the host, uniforms of dropout
    // sites, a decay bit for 64 values.
    const small = 256 * (3 * engine.layout.parameters.length + 24);
    expect(gpu.memory.peakBytes).toBeLessThanOrEqual(totalBytes + small);
    expect(gpu.memory.peakBytes).toBeGreaterThan(totalBytes - small);
  });
});

describe('the state after three updates with dropout', () => {
  let hash: string;
  beforeAll(async () => {
    hash = await run(engine);
  });

  test('the state after three updates is the same bits when run again', async () => {
    expect(await run(engine)).toBe(hash);
  });

  test.each<[string, (b: MicroBatch[]) => MicroBatch[]]>([
    ['reversed', (b) => b.toReversed()],
    ['interleaved', (b) => [b[3], b[0], b[5], b[1], b[4], b[2]]],
  ])('the state after three updates is the same bits with micro-batches in another order: %s', async (_, order) => {
    expect(await run(engine, { order })).toBe(hash);
  });

  test('the state after three updates is another under another seed, and with sequences in other slots', async () => {
    expect(await run(engine, { seed: SEED + 1 })).not.toBe(hash);
    const moved = (batches: MicroBatch[]) => batches.map((b, i) => ({ ...b, firstSlot: (i + 1) % 6 }));
    expect(await run(engine, { order: moved })).not.toBe(hash);
  });

  test('the state after three updates is the same bits from an engine built anew', async () => {
    expect(await run(await goldenEngine(gpu, golden, OPTIONS))).toBe(hash);
  });
});

describe('a step whose loss or gradient is not finite', () => {
  afterEach(() => restart(engine, golden));

  const spoil = (name: string, value: number) => {
    const values = Float32Array.from(golden.weights.get(name) ?? []);
    values[7] = value;
    engine.optimizer.weights.write(gpu, name, values);
  };

  test.each([
    ['wte.weight', Number.NaN],
    ['h.1.mlp.c_fc.weight', Number.NaN],
    ['h.0.ln_1.bias', Number.POSITIVE_INFINITY],
    // All is finite, but the loss is more than fixed point holds.
    ['ln_f.bias', 1e6],
  ])(
    'a step that is not finite stops the run at %s %d, names the step and leaves the state alone',
    async (name, value) => {
      spoil(name, value);
      const before = await stateHash(engine);
      const error = await engine.step(globalBatch(0), 7, SEED, RATE).catch((e: unknown) => e);
      expect(error).toMatchObject({ code: 'LT_TRAIN_NONFINITE', message: expect.stringContaining('step 7: the ') });
      expect(await stateHash(engine)).toBe(before);
      expect(await engine.evaluate(globalBatch(0), 6 * golden.config.context)).toBeNaN();
    },
  );

  test('a gradient that fixed point does not hold stops the run, and its tensor is named', async () => {
    // A huge activation that the next matrix ignores: it changes that matrix's gradient but not the loss.
    const bias = Float32Array.from(golden.weights.get('h.1.mlp.c_fc.bias') ?? []);
    bias[7] = 1e12;
    engine.optimizer.weights.write(gpu, 'h.1.mlp.c_fc.bias', bias);
    const matrix = Float32Array.from(golden.weights.get('h.1.mlp.c_proj.weight') ?? []);
    const { width } = golden.config;
    matrix.fill(0, 7 * width, 8 * width);
    engine.optimizer.weights.write(gpu, 'h.1.mlp.c_proj.weight', matrix);
    await expect(engine.step(globalBatch(0), 3, SEED, RATE)).rejects.toThrow(
      'step 3: the gradient of h.1.mlp.c_proj.weight is not finite (or 4096 and more)',
    );
  });

  test('a learning rate that is far too large stops the run at the step after', async () => {
    await engine.step(globalBatch(0), 1, SEED, 1e30);
    await expect(engine.step(globalBatch(1), 2, SEED, RATE)).rejects.toMatchObject({ code: 'LT_TRAIN_NONFINITE' });
  });

  test('a step that is not finite leaves nothing behind: with sound weights the run goes on as if it had not been', async () => {
    restart(engine, golden);
    const hash = await run(engine);
    spoil('h.0.attn.c_proj.weight', Number.NaN);
    await expect(engine.step(globalBatch(0), 1, SEED, RATE)).rejects.toThrow('the state before this step is kept');
    expect(await run(engine)).toBe(hash);
  });
});

describe('evaluation', () => {
  test('an evaluation counts no ignored targets and changes nothing', async () => {
    restart(engine, golden);
    const before = await stateHash(engine);
    const T = golden.config.context;
    const [first, second] = globalBatch(0);
    const alone = await engine.evaluate([first], T);
    const padding = { ...second, targets: new Uint32Array(T).fill(IGNORED_TARGET) };
    expect(await engine.evaluate([first, padding], T)).toBe(alone);
    expect(await engine.evaluate([second, first], 2 * T)).not.toBe(alone);
    expect(await stateHash(engine)).toBe(before);
    const hash = await run(engine);
    await engine.evaluate([first, second], 2 * T);
    expect(await run(engine)).toBe(hash);
  });
});

describe('clipping', () => {
  test('clipping reports the norm of the whole gradient and scales the update by clip / norm', async () => {
    restart(engine, golden);
    const batches = globalBatch(0);
    const context = { seed: SEED, step: 1, tokenWeight: 1 / (6 * golden.config.context) };
    // Between steps the sums hold what the last one left.
    engine.sums.clear(gpu);
    for (const batch of batches) engine.gpt.submitGradient(batch, context);
    const gradients = new Map<string, Float64Array>();
    for (const { name } of engine.layout.parameters) gradients.set(name, await readGradient(gpu, engine.sums, name));
    engine.sums.clear(gpu);
    const norm = gradientNorm(gradients);

    const outcomes: StepOutcome[] = [];
    for (const clip of [norm / 4, 4 * norm]) {
      const own = await goldenEngine(gpu, golden, { ...OPTIONS, clip });
      outcomes.push(await own.step(batches, 1, SEED, RATE));
      // The first moment after the first update is (1 - beta1) times the clipped gradient.
      const share = (1 - golden.beta1) * Math.min(1, clip / norm);
      for (const [name, gradient] of gradients) {
        const want = gradient.map((g) => g * share);
        agree(await own.optimizer.m.read(gpu, name), want, 1e-4, `${name}, clip ${clip}`);
      }
    }
    for (const { gradNorm } of outcomes) expect(Math.abs(gradNorm / norm - 1)).toBeLessThan(1e-5);
    expect(outcomes[0]).toEqual(outcomes[1]);
  });
});
