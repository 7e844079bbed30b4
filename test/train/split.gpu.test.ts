import { beforeAll, expect } from 'vitest';
import { Gpu } from '../../src/gpu/device.js';
import { defaultMatmulTable, type MatmulTable } from '../../src/model/matmul-plan.js';
import { openDawn } from '../../src/node/dawn.js';
import { readGradient } from '../model/harness.js';
import { agree } from '../reference/agree.js';
import { loadGolden } from '../reference/golden.js';
import { slowTest } from '../slow.js';
import { goldenEngine, goldenMicroBatches, stateHash } from './fixture.js';

const golden = loadGolden('untied');

let gpu: Gpu;
beforeAll(async () => {
  gpu = await Gpu.open(openDawn());
});

/** The gradients of one micro-batch, and the state after two updates. */
async function run(matmul: MatmulTable) {
  gpu.releaseAll();
  const engine = await goldenEngine(gpu, golden, { microBatch: golden.batch, plan: { matmul } });
  const [batch] = goldenMicroBatches(golden, 0, golden.batch);
  engine.gpt.submitGradient(batch, { seed: 0, step: 1, tokenWeight: 1 / batch.tokens.length });
  expect((await engine.sums.takeReport(gpu)).nonFinite).toEqual([]);
  const gradients = new Map<string, Float64Array>();
  for (const { name } of engine.layout.parameters) gradients.set(name, await readGradient(gpu, engine.sums, name));
  engine.sums.clear(gpu);
  for (let step = 1; step <= 2; step++)
    await engine.step(goldenMicroBatches(golden, step, golden.batch), step, 5, 1e-3);
  return { gradients, hash: await stateHash(engine), dispatches: engine.gpt.gradientList().length };
}

slowTest(
  'weight gradients whose K is split agree with those in one piece, and are the same bits each time',
  async () => {
    const table = defaultMatmulTable(gpu.adapter);
    const whole = await run(table);
    const split = await run([['* *x*x* grid', 'tile64x64/k4'], ...table]);
    // Four linear maps a layer and the head have a second dispatch, which adds the partial products.
    expect(split.dispatches - whole.dispatches).toBe(4 * golden.config.layers + 1);
    for (const [name, want] of whole.gradients) agree(split.gradients.get(name) ?? [], want, 1e-5, name);
    expect(split.hash).not.toBe(whole.hash);
    expect((await run([['* *x*x* grid', 'tile64x64/k4'], ...table])).hash).toBe(split.hash);
  },
);
