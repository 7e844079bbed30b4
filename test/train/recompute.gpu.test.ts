import { beforeAll, expect, test } from 'vitest';
import { Gpu } from '../../src/gpu/device.js';
import { memoryBudget } from '../../src/model/activations.js';
import { openDawn } from '../../src/node/dawn.js';
import { type Golden, loadGolden } from '../reference/golden.js';
import { engineOptions, goldenEngine, goldenMicroBatches, stateHash } from './fixture.js';

let gpu: Gpu;
beforeAll(async () => {
  gpu = await Gpu.open(openDawn());
});

interface Outcome {
  readonly hash: string;
  readonly losses: readonly number[];
  readonly bytes: number;
  readonly dispatches: number;
}

/** Three updates with dropout, and evaluations between them, which use the same buffers. */
async function train(golden: Golden, recompute: boolean): Promise<Outcome> {
  gpu.releaseAll();
  const engine = await goldenEngine(gpu, golden, { microBatch: 1, dropout: 0.2, recompute });
  const bytes = gpu.memory.allocatedBytes;
  const losses: number[] = [];
  for (let step = 1; step <= 3; step++) {
    const batches = goldenMicroBatches(golden, step, 1);
    losses.push((await engine.step(batches, step, 3, 1e-3)).loss);
    losses.push(await engine.evaluate(batches, golden.batch * golden.config.context));
  }
  return { hash: await stateHash(engine), losses, bytes, dispatches: engine.gpt.gradientList().length };
}

test.each(['tied', 'untied'] as const)(
  'layers computed again in backward give the same bits in less memory: %s',
  async (name) => {
    const golden = loadGolden(name);
    const kept = await train(golden, false);
    const again = await train(golden, true);
    expect(again.hash).toBe(kept.hash);
    expect(again.losses).toEqual(kept.losses);

    // All layers except the last are computed twice: six operations each.
    const { layers } = golden.config;
    expect(layers).toBeGreaterThan(1);
    expect(again.dispatches - kept.dispatches).toBe(6 * (layers - 1));
    const budget = (recompute: boolean) => {
      const { model, shape, plan } = engineOptions(gpu, golden, { microBatch: 1, dropout: 0.2, recompute });
      return memoryBudget(model, shape, plan).totalBytes;
    };
    expect(kept.bytes - again.bytes).toBe(budget(false) - budget(true));
    expect(kept.bytes).toBeGreaterThan(again.bytes);
  },
);
