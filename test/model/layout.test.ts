import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { memoryBudget, ownerBudget, workerStateBytes } from '../../src/model/activations.js';
import { checkModel, type ModelConfig } from '../../src/model/config.js';
import { freshTensor } from '../../src/model/initialize.js';
import { BUCKET_VALUES, ParameterLayout } from '../../src/model/layout.js';
import { parameterCount, parameters } from '../../src/model/parameters.js';
import { defaultPlan } from '../../src/model/plan.js';
import { headChunks, logitsStride } from '../../src/model/shape.js';
import type { Wire } from '../../src/model/wire.js';
import { MODEL } from './harness.js';

const ADAPTER = { name: '', vendor: '', architecture: '', driver: '', software: true, subgroupSize: 8 };
const PLAN = defaultPlan(ADAPTER);
const VERDICT: ModelConfig = {
  vocabSize: 50257,
  context: 256,
  width: 768,
  layers: 12,
  heads: 12,
  tie: false,
  qkvBias: false,
};

describe('the layout of the parameters', () => {
  const config = fc.record({
    vocabSize: fc.integer({ min: 1, max: 3000 }),
    width: fc.integer({ min: 1, max: 40 }),
    layers: fc.integer({ min: 1, max: 3 }),
    tie: fc.boolean(),
    qkvBias: fc.boolean(),
  });
  const limits = fc.record({
    windowValues: fc.integer({ min: 2 ** 13, max: 2 ** 16 }),
    slabValues: fc.integer({ min: 2 ** 16, max: 2 ** 18 }),
  });

  test('the layout holds every value once, in aligned pieces within windows and slabs', () => {
    fc.assert(
      fc.property(config, limits, (changes, bounds) => {
        const layout = new ParameterLayout({ ...MODEL, ...changes }, bounds);
        let [slab, end] = [0, 0];
        for (const piece of layout.pieces) {
          expect(piece.offset % 64).toBe(0);
          expect(piece.size).toBeLessThanOrEqual(bounds.windowValues);
          expect(piece.slab === slab ? piece.offset : 0).toBeGreaterThanOrEqual(piece.slab === slab ? end : 0);
          [slab, end] = [piece.slab, piece.offset + piece.size];
          expect(end).toBeLessThanOrEqual(layout.slabSizes[slab]);
          expect(layout.slabSizes[slab]).toBeLessThanOrEqual(bounds.slabValues);
        }
        for (const { name, size, shape } of layout.parameters) {
          const pieces = layout.piecesOf(name);
          expect(pieces.reduce((n, piece) => n + piece.size, 0)).toBe(size);
          expect(pieces.map((p) => p.rowStart)).toEqual(pieces.map((_, i) => i * pieces[0].rows));
          expect(pieces.reduce((n, piece) => n + piece.rows, 0)).toBe(shape[0]);
          for (const piece of pieces) expect(piece.rowStart % 64).toBe(0);
        }
        for (const name of ['ln_f', 'h.0.ln_1', 'h.0.ln_2']) {
          const [[gain], [bias]] = [layout.piecesOf(`${name}.weight`), layout.piecesOf(`${name}.bias`)];
          expect([bias.slab, bias.offset]).toEqual([gain.slab, gain.offset + Math.ceil(gain.size / 64) * 64]);
        }
      }),
    );
  });

  test("the layout keeps LayerNorm's gain beside its bias where a slab has room for the gain alone", () => {
    // 64 values each for wte and wpe, so that ln_1.weight would be the last of slab 0.
    const layout = new ParameterLayout(MODEL, { windowValues: 64, slabValues: 192 });
    const places = ['wpe.weight', 'h.0.ln_1.weight', 'h.0.ln_1.bias'].map((name) => layout.piecesOf(name)[0]);
    expect(places.map(({ slab, offset }) => [slab, offset])).toEqual([
      [0, 64],
      [1, 0],
      [1, 64],
    ]);
    expect(layout.slabSizes[0]).toBe(128);
  });

  test('the layout cuts the large tables of the 162M model in two, and all of it into buckets', () => {
    const layout = new ParameterLayout(VERDICT, PLAN);
    expect(parameterCount(VERDICT)).toBe(162_419_712);
    for (const name of ['wte.weight', 'lm_head.weight'])
      expect(layout.piecesOf(name).map((p) => p.rows)).toEqual([25152, 25105]);
    const buckets = layout.buckets();
    expect(buckets.reduce((n, b) => n + b.size, 0)).toBe(layout.allocatedValues);
    expect(Math.max(...buckets.map((b) => b.size))).toBe(BUCKET_VALUES);
  });

  test('the layout refuses a matrix that no binding holds', () => {
    expect(() => new ParameterLayout({ ...VERDICT, width: 6144, heads: 1 }, PLAN)).toThrow(
      expect.objectContaining({ code: 'LT_USAGE_MODEL', message: expect.stringContaining('--width') }),
    );
  });
});

describe('row chunks of the head', () => {
  test('row chunks of the head cover all rows in order, begin at multiples of 64 and keep within the plan', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 5000 }), fc.integer({ min: 1, max: 3000 }), (rows, vocabSize) => {
        const shape = { batch: 1, context: rows, dropout: 0 };
        const model = { ...MODEL, vocabSize };
        const plan = { ...PLAN, logitsValues: 2 ** 18 };
        let end = 0;
        for (const [start, count] of headChunks(model, shape, plan)) {
          expect(start).toBe(end);
          expect(start % 64).toBe(0);
          expect(count * logitsStride(model)).toBeLessThanOrEqual(plan.logitsValues);
          end = start + count;
        }
        expect(end).toBe(rows);
      }),
    );
  });
});

describe('the memory budget', () => {
  test('the memory budget of the 162M model at batch 2 is at most 20 bytes a parameter and 0.9 GB', () => {
    for (const batch of [1, 2]) {
      const { totalBytes } = memoryBudget(VERDICT, { batch, context: 256, dropout: 0.1 }, PLAN);
      expect(totalBytes).toBeLessThan(20 * parameterCount(VERDICT) + 0.9e9);
    }
  });

  const values = new ParameterLayout(VERDICT, PLAN).allocatedValues;
  const SHAPE = { batch: 1, context: 256, dropout: 0.1 };
  const LOW = { ...SHAPE, wire: 'low' } as const;
  /** Bytes a parameter, to 6 digits: buffers end at multiples of some hundred bytes. */
  const each = (bytes: number) => Math.round((1e6 * bytes) / values) / 1e6;

  test('the memory budget of the low wire has master weights and a byte for 64 parameters on top, and the same activations', () => {
    const [exact, low] = [memoryBudget(VERDICT, SHAPE, PLAN), memoryBudget(VERDICT, LOW, PLAN)];
    expect(exact.stateBytes).toBe(20 * values);
    expect(each(low.stateBytes)).toBeCloseTo(24 + 1 / 64, 4);
    expect({ ...low, stateBytes: 0, totalBytes: 0 }).toEqual({ ...exact, stateBytes: 0, totalBytes: 0 });
    expect(low.totalBytes - exact.totalBytes).toBe(low.stateBytes - exact.stateBytes);
    expect(workerStateBytes(VERDICT, SHAPE, PLAN)).toBe(12 * values);
    expect(each(workerStateBytes(VERDICT, LOW, PLAN))).toBeCloseTo(12 + 1 / 64, 4);
  });

  test("the memory budget of a cluster's owner has the sums of one bucket without clipping and all sums with it", () => {
    const bucket = 4 * BUCKET_VALUES;
    const state = (keepsMoments: boolean, wire?: Wire) =>
      ownerBudget(VERDICT, PLAN, keepsMoments, undefined, wire).stateBytes;
    expect(state(true)).toBe(24 * values + 3 * bucket);
    expect(state(false)).toBe(24 * values);
    const moves = 1 / 2 + 2 / 64;
    expect(each(state(true, 'low') - 3 * bucket)).toBeCloseTo(28 + moves, 4);
    expect(each(state(false, 'low'))).toBeCloseTo(24 + moves, 4);
    const computing = ownerBudget(VERDICT, PLAN, true, LOW);
    expect(computing.stateBytes - state(true, 'low')).toBe(8 * values);
    expect(computing.activationBytes).toBe(memoryBudget(VERDICT, LOW, PLAN).activationBytes);
  });

  test('the memory budget of a model whose heads attention cannot compute is refused with advice', () => {
    expect(() => memoryBudget({ ...VERDICT, heads: 4 }, { batch: 1, context: 256, dropout: 0 }, PLAN)).toThrow(
      expect.objectContaining({
        code: 'LT_USAGE_MODEL',
        message: expect.stringMatching(/^heads of 192 values: .*--heads/),
      }),
    );
  });
});

describe('models', () => {
  test('models that cannot be built are refused with the reason', () => {
    expect(() => checkModel(VERDICT)).not.toThrow();
    const refused: [Partial<ModelConfig>, string][] = [
      [{ heads: 5 }, 'width 768 is not divisible by 5 heads'],
      [{ layers: 0 }, 'layers is 0'],
      [{ context: 1.5 }, 'context is 1.5'],
      [{ vocabSize: Number.NaN }, 'vocabSize is NaN'],
    ];
    for (const [change, message] of refused)
      expect(() => checkModel({ ...VERDICT, ...change })).toThrow(
        expect.objectContaining({ code: 'LT_USAGE_MODEL', message: expect.stringContaining(message) }),
      );
  });
});

describe('fresh weights', () => {
  const model = { ...MODEL, vocabSize: 500, width: 64, heads: 4, layers: 2, tie: false };
  const list = parameters(model);
  const fresh = (how: 'gpt2' | 'pytorch', name: string, seed = 1) => {
    const index = list.findIndex((p) => p.name === name);
    return freshTensor(model, list[index], index, how, seed);
  };
  const deviation = (values: Float32Array) => Math.sqrt(values.reduce((sum, v) => sum + v * v, 0) / values.length);
  const within = (got: number, want: number) =>
    expect(Math.abs(got / want - 1), `${got} for ${want}`).toBeLessThan(0.05);

  test("fresh weights are GPT-2's: N(0, 0.02), residual projections scaled, biases 0, gains 1", () => {
    for (const name of ['wte.weight', 'h.0.attn.c_attn.weight', 'lm_head.weight'])
      within(deviation(fresh('gpt2', name)), 0.02);
    for (const name of ['h.1.attn.c_proj.weight', 'h.0.mlp.c_proj.weight'])
      within(deviation(fresh('gpt2', name)), 0.02 / Math.sqrt(4));
    expect(deviation(fresh('gpt2', 'h.0.mlp.c_fc.bias'))).toBe(0);
    expect(new Set(fresh('gpt2', 'h.0.ln_1.weight'))).toEqual(new Set([1]));
  });

  test("fresh weights are PyTorch's: embeddings N(0, 1), linear layers U(+-1 / sqrt(fan in)), LayerNorm 1 and 0", () => {
    within(deviation(fresh('pytorch', 'wte.weight')), 1);
    for (const [name, fanIn] of [
      ['h.0.mlp.c_fc.weight', 64],
      ['h.0.mlp.c_fc.bias', 64],
      ['h.0.mlp.c_proj.weight', 256],
      ['lm_head.weight', 64],
    ] as const) {
      const values = fresh('pytorch', name);
      const bound = 1 / Math.sqrt(fanIn);
      expect(Math.max(...values.map(Math.abs))).toBeLessThanOrEqual(bound);
      expect(Math.max(...values)).toBeGreaterThan(0.9 * bound);
      expect(Math.min(...values)).toBeLessThan(-0.9 * bound);
    }
    expect(new Set(fresh('pytorch', 'ln_f.weight'))).toEqual(new Set([1]));
    expect(deviation(fresh('pytorch', 'ln_f.bias'))).toBe(0);
  });

  test('fresh weights are a function of seed and tensor', () => {
    expect(fresh('gpt2', 'wte.weight')).toEqual(fresh('gpt2', 'wte.weight'));
    expect(fresh('gpt2', 'wte.weight', 2)).not.toEqual(fresh('gpt2', 'wte.weight'));
    const [first, second] = ['h.0', 'h.1'].map((h) => fresh('gpt2', `${h}.attn.c_attn.weight`));
    expect(first).not.toEqual(second);
  });
});
