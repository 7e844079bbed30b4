import { describe, expect, test } from 'vitest';
import { checkIdentity } from '../../src/checkpoint/identity.js';
import { MODEL_FIELDS } from '../../src/model/config.js';
import { defaultPlan } from '../../src/model/plan.js';
import { engineOptions, microBatchShape } from '../../src/run/resolve.js';
import { argumentsOf, flagOf, settle } from '../../src/train/option-table.js';
import {
  BASE_OPTIONS,
  shapeOptionsOf,
  TRAIN_OPTION_NAMES,
  TRAIN_OPTIONS,
  TrainOptionsSchema,
} from '../../src/train/options.js';
import { PRESET_NAMES, PRESETS } from '../../src/train/presets.js';
import { identityOf, type RunConfig } from '../../src/train/run-config.js';
import { validate } from '../../src/util/validate.js';

const PLAN = defaultPlan({ software: true, subgroupSize: 8 } as Parameters<typeof defaultPlan>[0]);

const CONFIG: RunConfig = {
  version: '0',
  model: { vocabSize: 256, ...shapeOptionsOf(BASE_OPTIONS) },
  options: BASE_OPTIONS,
  plan: PLAN,
  data: { hash: 'h', description: 'd' },
  adapter: 'a',
  totalSteps: 10,
  stepsPerEpoch: 10,
};

describe('the table of options', () => {
  test('the table of options has defaults and presets that its own schemas accept', () => {
    expect(validate(TrainOptionsSchema, BASE_OPTIONS)).toMatchObject({ ok: true });
    for (const preset of PRESET_NAMES)
      expect(validate(TrainOptionsSchema, { ...BASE_OPTIONS, ...PRESETS[preset] }), preset).toMatchObject({ ok: true });
  });

  test('the table of options has an option for every field of the model but the number of token ids', () => {
    const fields = Object.keys(MODEL_FIELDS).filter((name) => name !== 'vocabSize');
    expect(Object.keys(shapeOptionsOf(BASE_OPTIONS)).sort()).toEqual(fields.sort());
  });

  test('the table of options says what a run of an older version had where its configuration does not name an option', () => {
    const { recompute: _r, stack: _s, precision: _p, wire: _w, ...older } = BASE_OPTIONS;
    expect(TrainOptionsSchema.parse(older)).toEqual({ ...BASE_OPTIONS, precision: 'f32', wire: 'exact' });
    const { lr: _, ...damaged } = BASE_OPTIONS;
    expect(TrainOptionsSchema.safeParse(damaged).success).toBe(false);
  });
});

describe("a run's identity", () => {
  /** A change of this list changes what a resume of existing runs may change. */
  const FREE = [
    'checkpointEvery',
    'data',
    'epochs',
    'evalBatches',
    'evalEvery',
    'prompt',
    'recompute',
    'sampleEvery',
    'sampleTokens',
    'stack',
    'steps',
    'temperature',
    'topK',
  ];

  test("a run's identity has every option but those that no bit depends on", () => {
    const { options } = identityOf(CONFIG) as { options: object };
    const left = TRAIN_OPTION_NAMES.filter((name) => !Object.hasOwn(options, name));
    expect(left.sort()).toEqual(FREE);
    for (const name of Object.keys(options)) expect(TRAIN_OPTIONS[name as 'lr'].changesBits, name).toBe(true);
  });

  test("a run's identity has its wire: a run of one cannot go on in the other, and one without the option is exact", () => {
    const identity = (options: object) => identityOf({ ...CONFIG, options: TrainOptionsSchema.parse(options) });
    const { wire: _, ...older } = BASE_OPTIONS;
    expect(() => checkIdentity('runs/a', identity(older), identity({ ...older, wire: 'exact' }))).not.toThrow();
    expect(() => checkIdentity('runs/a', identity(older), identity({ ...older, wire: 'low' }))).toThrow(
      expect.objectContaining({
        code: 'LT_RUN_MISMATCH',
        message: expect.stringMatching(
          /^runs\/a cannot go on as another run: options\.wire is "exact" in the run, "low" now; .*$/,
        ),
      }),
    );
  });

  test("a run's identity has the number of steps only where the learning rate depends on it", () => {
    expect(identityOf(CONFIG)).not.toHaveProperty('totalSteps');
    const cosine = { ...CONFIG, options: { ...BASE_OPTIONS, schedule: 'cosine' as const } };
    expect(identityOf(cosine)).toHaveProperty('totalSteps', 10);
  });
});

test('the shape of a micro-batch names the wire only where it is low, and engines always know the micro-batches of a step', () => {
  const options = { ...BASE_OPTIONS, batch: 8, microBatch: 2 };
  expect(microBatchShape({ ...CONFIG, options })).not.toHaveProperty('wire');
  const low = { ...CONFIG, options: { ...options, wire: 'low' as const } };
  const shape = microBatchShape(low);
  expect(shape.wire).toBe('low');
  expect(engineOptions(low, shape, PLAN)).toMatchObject({ microBatches: 4, shape: { wire: 'low' } });
});

test('options become the arguments that give them again', () => {
  expect(flagOf('microBatch')).toBe('--micro-batch');
  const given = { microBatch: 2, qkvBias: false, tie: true, prompt: '--a b', recompute: false, seed: undefined };
  expect(argumentsOf(TRAIN_OPTIONS, given)).toEqual([
    '--micro-batch=2',
    '--no-qkv-bias',
    '--tie',
    '--prompt=--a b',
    '--no-recompute',
  ]);
});

test('an option that is not given has the default of its row, where there is one', () => {
  const { lr, data } = TRAIN_OPTIONS;
  expect(settle({ lr, data }, { data: 'x' })).toEqual({ lr: 4e-4, data: 'x' });
});
