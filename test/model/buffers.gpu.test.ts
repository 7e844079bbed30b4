import { beforeAll, expect, test } from 'vitest';
import { Buffers, bytesOf, samplingBuffers, trainingBuffers } from '../../src/model/buffers.js';
import { defaultPlan } from '../../src/model/plan.js';
import { GpuHarness } from '../gpu/harness.js';
import { MODEL } from './harness.js';

let harness: GpuHarness;
beforeAll(async () => {
  harness = await GpuHarness.open();
});

const ADAPTER = { name: '', vendor: '', architecture: '', driver: '', software: true, subgroupSize: 8 };
const PLAN = defaultPlan(ADAPTER);
const CONFIG = { ...MODEL, vocabSize: 70, context: 8, width: 16, layers: 3, heads: 2 };
const SHAPE = { batch: 3, context: 8, dropout: 0.1 };

const training = (changes: object = {}) => trainingBuffers(CONFIG, { ...SHAPE, ...changes }, PLAN, 5);
const onPaper = (changes: object = {}) => Buffers.onPaper(training(changes));
const sampling = () => Buffers.onPaper(samplingBuffers(CONFIG, 0));

/** The number of buffers of a plan. */
function distinct(views: readonly unknown[]): number {
  return new Set(views).size;
}

const LAYERS = [0, 1, 2];

test('A layer has buffers of its own, unless backward computes it again', () => {
  const [kept, again] = [onPaper(), onPaper({ recompute: true })];
  expect(distinct(LAYERS.map((l) => kept.view('norm1', l)))).toBe(3);
  expect(distinct(LAYERS.map((l) => again.view('norm1', l)))).toBe(1);
  for (const buffers of [kept, again]) expect(distinct([...LAYERS, 3].map((l) => buffers.view('x', l)))).toBe(4);
});

test('Sampling keeps the keys and values of each layer and nothing else of it', () => {
  const { view } = sampling();
  expect(distinct(LAYERS.map((l) => view('cache', l)))).toBe(3);
  expect(distinct([...LAYERS, 3].map((l) => view('x', l)))).toBe(1);
  expect(distinct(LAYERS.map((l) => view('gelu', l)))).toBe(1);
  expect(view('cache', 0).size).toBe(4 * 8 * 2 * 16);
});

test('Sizes follow from the stack, and float16 halves the bytes of what products and attention read', () => {
  const bytes = (changes: object, name: 'dQkv' | 'dx' | 'logits') => onPaper(changes).view(name).size;
  expect(bytes({}, 'dx')).toBe(4 * 24 * 16);
  expect(bytes({ stack: 4 }, 'dx')).toBe(4 * 4 * 24 * 16);
  expect(bytes({}, 'dQkv')).toBe(4 * 24 * 3 * 16);
  expect(bytes({ precision: 'f16' }, 'dQkv')).toBe(2 * 24 * 3 * 16);
  for (const name of ['dx', 'logits'] as const) expect(bytes({ precision: 'f16' }, name)).toBe(bytes({}, name));
});

test('A buffer without values is not there', () => {
  expect(onPaper().view('dDropped').size).toBeGreaterThan(0);
  expect(() => onPaper({ dropout: 0 }).view('dDropped')).toThrow(RangeError);
  expect(onPaper().scratch).toBeDefined();
  expect(sampling().scratch).toBeUndefined();
});

test('What is allocated takes the bytes that were planned', async () => {
  for (const plan of [training(), training({ recompute: true, precision: 'f16' }), samplingBuffers(CONFIG, 7)]) {
    const before = harness.gpu.memory.allocatedBytes;
    await Buffers.allocate(harness.gpu, plan, PLAN.windowValues);
    expect(harness.gpu.memory.allocatedBytes - before).toBe(bytesOf(plan));
  }
});

test('A buffer that no binding holds is refused by name', async () => {
  await expect(Buffers.allocate(harness.gpu, training(), 24 * 16)).rejects.toThrow(
    expect.objectContaining({
      code: 'LT_GPU_MEMORY',
      message: expect.stringMatching(/^activation qkv\.0 of 4608 bytes/),
    }),
  );
});

test('The compiler refuses a name that there is not, one of the other graph, and a layer too many or too few', () => {
  const [train, sample] = [onPaper(), sampling()];
  // @ts-expect-error: no buffer has this name
  expect(() => train.view('nrom1', 0)).toThrow();
  // @ts-expect-error: which layer?
  expect(() => train.view('norm1')).toThrow();
  // @ts-expect-error: there is one for all layers
  expect(train.view('dx', 1)).toBe(train.view('dx'));
  // @ts-expect-error: of sampling only
  expect(() => train.view('token')).toThrow();
  // @ts-expect-error: of training only
  expect(() => sample.view('dx')).toThrow();
});
