import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { StatePart } from '../../src/checkpoint/digest.js';
import { openModel } from '../../src/checkpoint/huggingface.js';
import { RunDirectory } from '../../src/checkpoint/run.js';
import { parameters } from '../../src/model/parameters.js';
import { defaultPlan } from '../../src/model/plan.js';
import { exportModel } from '../../src/run/export-model.js';
import { checkInit } from '../../src/run/init-model.js';
import { beginState, restore } from '../../src/run/state.js';
import type { TrainingEngine } from '../../src/train/engine.js';
import { BASE_OPTIONS, shapeOptionsOf } from '../../src/train/options.js';
import type { RunConfig } from '../../src/train/run-config.js';
import { scratch, state, TINY } from '../checkpoint/helpers.js';

const CONFIG: RunConfig = {
  version: '0.1.0',
  model: TINY,
  options: { ...BASE_OPTIONS, ...shapeOptionsOf(TINY), wire: 'low' },
  plan: defaultPlan({ software: true, subgroupSize: 8 } as Parameters<typeof defaultPlan>[0]),
  data: { hash: '', description: '' },
  adapter: '',
  totalSteps: 9,
  stepsPerEpoch: 9,
};
const NAMES = parameters(TINY).map(({ name }) => name);

/** An engine that keeps what is written, and notes when it is told that the weights are in place. */
function recorder() {
  const written = new Map<string, Float32Array>();
  const starts: unknown[] = [];
  const arena = (part: StatePart) => ({
    write: (_: unknown, name: string, values: Float32Array) => written.set(`${part} ${name}`, values),
  });
  const [weights, master, m, v] = (['weights', 'master', 'm', 'v'] as const).map(arena);
  const start = (version: number, fresh: boolean) => void starts.push([version, fresh, written.size]);
  const layout = { config: TINY, parameters: parameters(TINY) };
  const engine = { gpu: {}, layout, options: { shape: {} }, state: { weights, master, m, v, start } };
  return { written, starts, engine: engine as unknown as TrainingEngine };
}

async function runAt(step: number): Promise<RunDirectory> {
  const run = await RunDirectory.create(join(scratch(), 'run'), CONFIG);
  const checkpoint = {
    model: TINY,
    step,
    version: '0.1.0',
    tokensSeen: 0,
    wire: 'low',
    read: state(TINY, step),
  } as const;
  if (step > 0) await run.writeCheckpoint(checkpoint);
  return run;
}

test('a run of the low wire that goes on gets all parts of its state, and then its state is told the step', async () => {
  const { engine, written, starts } = recorder();
  const run = await runAt(4);
  await restore(run, engine, 4);
  run.close();
  expect(starts).toEqual([[4, false, 4 * NAMES.length]]);
  for (const part of ['weights', 'master', 'm', 'v'] as const)
    for (const name of NAMES)
      expect(written.get(`${part} ${name}`), `${part} ${name}`).toEqual(state(TINY, 4)(part, name));
});

test('a run that has no checkpoint yet begins with fresh weights, and its state is told so', async () => {
  const { engine, written, starts } = recorder();
  const run = await runAt(0);
  await restore(run, engine, 0);
  run.close();
  expect(starts).toEqual([[0, true, NAMES.length]]);
  expect([...written.keys()]).toEqual(NAMES.map((name) => `weights ${name}`));
});

test('a run begins with the weights that a run of the low wire computes with, not with those that AdamW updates', async () => {
  const { engine, written, starts } = recorder();
  const run = await runAt(4);
  run.close();
  const init = join(run.checkpoints, '000004');
  const notes: string[] = [];
  expect(await checkInit(init, (line) => notes.push(line))).toEqual(TINY);
  expect(notes).toEqual([]);
  await beginState(engine, CONFIG, init);
  expect(starts).toEqual([[0, true, NAMES.length]]);
  for (const name of NAMES) expect(written.get(`weights ${name}`), name).toEqual(state(TINY, 4)('weights', name));

  const out = join(scratch(), 'model');
  await exportModel({ run: run.path, out });
  const exported = await openModel(out);
  for (const name of NAMES) expect(await exported.read(name), name).toEqual(state(TINY, 4)('weights', name));
  exported.close();
});
