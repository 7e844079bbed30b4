import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Gpu } from '../../src/gpu/device.js';
import type { MicroBatch } from '../../src/model/gpt.js';
import { gridExponent } from '../../src/model/grid.js';
import { defaultPlan } from '../../src/model/plan.js';
import type { Precision } from '../../src/model/precision.js';
import { loadShaders } from '../../src/node/shaders.js';
import { Engine, initializeWeights } from '../../src/train/engine.js';
import type { TrainingState } from '../../src/train/optimizer.js';
import { threefry } from '../../src/util/random.js';
import { GpuHarness } from '../gpu/harness.js';
import { sampled } from '../thorough.js';

let gpu: Gpu;
beforeAll(async () => {
  gpu = (await GpuHarness.open()).gpu;
});

afterAll(() => gpu.device.destroy());

const CONTEXT = 8;
const VOCABULARY = 130;
const MICRO_BATCHES = 3;
const SEED = 7;

interface Case {
  readonly tie: boolean;
  readonly precision: Precision;
}

function create({ tie, precision }: Case): Promise<Engine> {
  const width = 40;
  return Engine.create(gpu, loadShaders(), {
    model: { vocabSize: VOCABULARY, context: CONTEXT, width, layers: 2, heads: 5, tie, qkvBias: true },
    shape: { batch: 1, context: CONTEXT, dropout: 0.1, precision, wire: 'low' },
    // Slabs of some tensors, several bindings and buckets each.
    plan: { ...defaultPlan(gpu.adapter), windowValues: 2 ** 13, slabValues: 2 ** 13 },
    adamw: { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weightDecay: 0.1, decay: 'matrices' },
    clip: 0.5,
    microBatches: MICRO_BATCHES,
  });
}

function batches(step: number): MicroBatch[] {
  const ids = (n: number, c: number) =>
    Uint32Array.from({ length: CONTEXT }, (_, i) => threefry([step, n], i, c)[0] % VOCABULARY);
  return Array.from({ length: MICRO_BATCHES }, (_, n) => ({ tokens: ids(n, 0), targets: ids(n, 1), firstSlot: n }));
}

/** All steps have other learning rates; in one nothing moves. */
const rateOf = (step: number) => (step === 3 ? 0 : 1e-3 / step);

const take = (engine: Engine, step: number) => engine.step(batches(step), step, SEED, rateOf(step));

/** The parts that a checkpoint has. */
const saved = ({ weights, m, v, master }: TrainingState) =>
  [weights, m, v, master].flatMap((part) => (part ? [part] : []));

/** The values of all parts and the grid, each tensor and each slab. */
async function everything({ gpu, state, layout }: Engine): Promise<(Float32Array | Uint8Array)[]> {
  const all: (Float32Array | Uint8Array)[] = [];
  for (const part of saved(state)) for (const { name } of layout.parameters) all.push(await part.read(gpu, name));
  for (const slab of state.grid?.slabs ?? []) all.push(new Uint8Array(await gpu.read(slab)));
  return all;
}

/** A new engine that goes on from what a checkpoint of `from` would have. */
async function resumed(from: Engine, kind: Case, version: number): Promise<Engine> {
  const engine = await create(kind);
  const parts = saved(engine.state);
  for (const [i, part] of saved(from.state).entries())
    for (const { name } of from.layout.parameters) parts[i].write(gpu, name, await part.read(gpu, name));
  engine.state.start(version, false);
  return engine;
}

const cases: Case[] = [true, false].flatMap((tie) =>
  (['portable', 'f32'] as const).map((precision) => ({ tie, precision })),
);

test.each(sampled(cases, 2))(
  'a resumed run of the low wire has the grid of an undisturbed one, and goes on alike: $precision, tied: $tie',
  async (kind) => {
    const undisturbed = await create(kind);
    expect(undisturbed.layout.slabSizes.length).toBeGreaterThan(2);
    initializeWeights(undisturbed, 'gpt2', SEED);
    undisturbed.state.start(0, true);
    let other: Engine | undefined;
    const grids: Uint8Array[] = [];
    for (let step = 1; step <= 4; step++) {
      await take(undisturbed, step);
      if (other) await take(other, step);
      const expected = await everything(undisturbed);
      // The run that was resumed before has gone on alike.
      if (other) expect(await everything(other)).toEqual(expected);
      other?.release();
      other = await resumed(undisturbed, kind, step);
      expect(await everything(other)).toEqual(expected);
      grids.push(expected[expected.length - 1] as Uint8Array);
    }
    other?.release();
    undisturbed.release();
    const exponents = grids.map((grid) => new Set([...grid].filter((byte) => byte !== 0).map(gridExponent)));
    for (const [i, some] of exponents.entries()) expect(some.size, `exponents after step ${i + 1}`).toBeGreaterThan(2);
    expect(new Set(grids.map(String)).size).toBe(grids.length);
  },
);
