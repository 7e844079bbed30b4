import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ModelConfig } from '../../src/model/config.js';
import { parameters } from '../../src/model/parameters.js';
import {
  fixedPointStatus,
  fixedPointSum,
  fromFixedPoint,
  fromWords,
  toFixedPoint,
  toWords,
} from '../../src/reference/fixed-point.js';
import { deriveKey, Stream, threefry, uniformAt } from '../../src/util/random.js';
import { adamW, freshAdamW, gradientNorm } from './adamw.js';
import { agree } from './agree.js';
import { goldenBatch, loadGolden, toFloat64 } from './golden.js';
import { backward, type ForwardOptions, forward } from './gpt.js';
import { dropoutFactors, gelu, IGNORED_TARGET } from './operations.js';

const shape = { vocabSize: 11, context: 5, width: 6, layers: 2, heads: 3 };

/** Reproducible weights large enough for every part of the model to matter: gains around 1, all else within 0.5. */
function someWeights(config: ModelConfig): Map<string, Float64Array> {
  return new Map(
    parameters(config).map(({ name, kind, size }, tensor) => {
      const key = deriveKey(7, 99, tensor);
      return [name, Float64Array.from({ length: size }, (_, i) => uniformAt(key, i) - (kind === 'gain' ? -0.5 : 0.5))];
    }),
  );
}

function someTokens(config: ModelConfig, count: number, seed: number): Uint32Array {
  const key = deriveKey(seed, 98);
  return Uint32Array.from({ length: count }, (_, i) => Math.floor(uniformAt(key, i) * config.vocabSize));
}

/** The index of the largest gradient, and some indices all over the tensor. */
function places(gradient: Float64Array): Set<number> {
  const { length } = gradient;
  const largest = gradient.reduce((best, g, i) => (Math.abs(g) > Math.abs(gradient[best]) ? i : best), 0);
  return new Set([largest, ...[0, 0.19, 0.37, 0.61, 0.83].map((part) => Math.floor(part * length)), length - 1]);
}

describe('the reference gradient', () => {
  const dropout = { p: 0.3, seed: 5, step: 3, firstSlot: 2 };
  const cases: [string, ModelConfig, ForwardOptions][] = [
    ['untied', { ...shape, tie: false, qkvBias: false }, {}],
    ['tied', { ...shape, tie: true, qkvBias: true }, {}],
    ['untied with QKV bias and dropout', { ...shape, tie: false, qkvBias: true }, { dropout }],
    ['tied with dropout', { ...shape, tie: true, qkvBias: false }, { dropout }],
    ['sequences shorter than the position table', { ...shape, tie: true, qkvBias: true }, { dropout, context: 3 }],
    ['one head, one layer', { ...shape, layers: 1, heads: 1, tie: false, qkvBias: true }, { dropout }],
  ];
  test.each(cases)('the reference gradient is the slope of the loss: %s', (_, config, options) => {
    const weights = someWeights(config);
    const rows = 2 * (options.context ?? config.context);
    const tokens = someTokens(config, rows, 1);
    const targets = someTokens(config, rows, 2);
    targets[3] = IGNORED_TARGET;
    const scale = 1 / 7;
    const loss = () => scale * forward(config, weights, tokens, targets, options).lossSum;
    const gradients = backward(forward(config, weights, tokens, targets, options), scale);
    expect([...gradients.keys()]).toEqual(parameters(config).map((p) => p.name));

    const slopeAt = (values: Float64Array, i: number) => {
      const value = values[i];
      const at = (offset: number) => {
        values[i] = value + offset;
        const result = loss();
        values[i] = value;
        return result;
      };
      // Central differences of fourth order: their error is of the order of h^4.
      const h = 1e-3;
      return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
    };
    for (const [name, gradient] of gradients) {
      const values = weights.get(name) as Float64Array;
      expect(gradient.length, name).toBe(values.length);
      const largest = gradient.reduce((most, g) => Math.max(most, Math.abs(g)), 0);
      expect(largest, `${name} is reached`).toBeGreaterThan(1e-4);
      for (const i of places(gradient)) {
        const slope = slopeAt(values, i);
        // Some gradients are zero in theory (unseen tokens, the keys' bias), so errors are relative to the tensor's largest.
        const error = Math.abs(gradient[i] - slope) / Math.max(Math.abs(slope), 1e-2 * largest);
        expect(error, `${name}[${i}]: gradient ${gradient[i]}, slope ${slope}`).toBeLessThan(1e-6);
      }
    }
  });

  test('the reference gradient is nothing for a micro-batch without targets', () => {
    const config = { ...shape, tie: false, qkvBias: true };
    const pass = forward(
      config,
      someWeights(config),
      someTokens(config, 10, 1),
      new Uint32Array(10).fill(IGNORED_TARGET),
    );
    expect(pass.lossSum).toBe(0);
    expect(gradientNorm(backward(pass, 1))).toBe(0);
  });
});

describe('the reference and PyTorch', () => {
  test.each(['tied', 'untied'] as const)("the reference has PyTorch's logits and gradients at step 0: %s", (name) => {
    const golden = loadGolden(name);
    const { tokens, targets } = goldenBatch(golden, 0);
    const pass = forward(golden.config, golden.weights, tokens, targets);
    const offset = pass.logits.reduce((most, logit, i) => Math.max(most, Math.abs(logit - golden.logits[i])), 0);
    expect(pass.logits.length).toBe(golden.logits.length);
    expect(offset).toBeLessThan(1e-6);
    const gradients = backward(pass, 1 / tokens.length);
    expect([...golden.gradients.keys()].sort()).toEqual([...gradients.keys()].sort());
    for (const [tensor, want] of golden.gradients) agree(gradients.get(tensor) ?? [], want, 1e-5, tensor);
  });

  test.each(['tied', 'untied'] as const)('the reference and PyTorch agree on 20 steps of AdamW: %s', (name) => {
    const golden = loadGolden(name);
    const weights = toFloat64(golden.weights);
    const state = freshAdamW();
    golden.losses.forEach((want, step) => {
      const { tokens, targets } = goldenBatch(golden, step);
      const pass = forward(golden.config, weights, tokens, targets);
      expect(Math.abs(pass.lossSum / tokens.length - want), `loss of step ${step}`).toBeLessThan(1e-5);
      adamW(weights, backward(pass, 1 / tokens.length), state, golden);
    });
    expect(golden.losses.length).toBe(20);
    // The gradient of the keys' bias is only PyTorch's rounding, which AdamW turns into full steps.
    for (const [tensor, want] of golden.finalWeights) agree(weights.get(tensor) ?? [], want, 1e-3, tensor);
  });
});

describe('the reference AdamW', () => {
  test('the reference AdamW decays what it is told to and scales the gradient', () => {
    const options = { learningRate: 0.1, weightDecay: 0.5, beta1: 0.9, beta2: 0.99, epsilon: 1e-8 };
    const weights = new Map([
      ['a', Float64Array.of(2)],
      ['b', Float64Array.of(2)],
    ]);
    const gradients = new Map([
      ['a', [4]],
      ['b', [-3]],
    ]);
    expect(gradientNorm(gradients)).toBe(5);
    const state = freshAdamW();
    adamW(weights, gradients, state, { ...options, decays: (name) => name === 'a', clipScale: 0.5 });
    // The first update depends on the gradient's sign only.
    expect(weights.get('a')?.[0]).toBeCloseTo(2 * 0.95 - 0.1, 7);
    expect(weights.get('b')?.[0]).toBeCloseTo(2 + 0.1, 7);
    expect(state.m.get('a')?.[0]).toBeCloseTo(0.1 * 2, 12);
    expect(state.v.get('b')?.[0]).toBeCloseTo(0.01 * 1.5 ** 2, 12);
  });
});

describe('the reference dropout', () => {
  test('the reference dropout draws the published words of Threefry-2x32', () => {
    // Random123, tests/kat_vectors
    expect(threefry([0, 0], 0, 0)).toEqual([0x6b200159, 0x99ba4efe]);
    expect(threefry([0xffffffff, 0xffffffff], 0xffffffff, 0xffffffff)).toEqual([0x1cb996fc, 0xbb002be7]);
    expect(threefry([0x13198a2e, 0x03707344], 0x243f6a88, 0x85a308d3)).toEqual([0xc4923a9c, 0x483df7a0]);
  });

  test('the reference dropout drops a value when its word is below p * 2^32; two places share a block', () => {
    const words = [...threefry([0, 0], 5, 0), ...threefry([0, 0], 5, 1)];
    words.forEach((word, place) => {
      expect(dropoutFactors([0, 0], word / 2 ** 32, 5, 1, 4)[place]).not.toBe(0);
      expect(dropoutFactors([0, 0], (word + 1) / 2 ** 32, 5, 1, 4)[place]).toBe(0);
    });
  });

  test('the reference dropout drops its share, keeps the mean, and names each value by slot and place', () => {
    const key = deriveKey(1, 2, 3, 4);
    const factors = dropoutFactors(key, 0.1, 6, 4, 9999);
    const dropped = factors.filter((f) => f === 0).length / factors.length;
    expect(dropped).toBeGreaterThan(0.09);
    expect(dropped).toBeLessThan(0.11);
    expect(new Set(factors)).toEqual(new Set([0, 1 / 0.9]));
    expect(dropoutFactors(key, 0.1, 8, 1, 9999)).toEqual(factors.slice(2 * 9999, 3 * 9999));
    expect(new Set(dropoutFactors(key, 0, 0, 1, 99))).toEqual(new Set([1]));
  });

  test('the reference dropout gives a sequence the same masks wherever the micro-batches are cut', () => {
    const config = { ...shape, tie: true, qkvBias: true };
    const weights = someWeights(config);
    const tokens = someTokens(config, 15, 1);
    const dropout = { p: 0.2, seed: 1, step: 1, firstSlot: 4 };
    const whole = forward(config, weights, tokens, tokens, { dropout });
    const cut = forward(config, weights, tokens.slice(5, 10), tokens.slice(5, 10), {
      dropout: { ...dropout, firstSlot: 5 },
    });
    expect(cut.losses).toEqual(whole.losses.slice(5, 10));
    const other = forward(config, weights, tokens, tokens, { dropout: { ...dropout, step: 2 } });
    expect(other.lossSum).not.toBe(whole.lossSum);
  });

  test("the reference dropout drops at every site of the graph, by that site's key", () => {
    const config = { ...shape, tie: true, qkvBias: true };
    const { context: T, width: C, heads: H } = config;
    const weights = someWeights(config);
    const tokens = someTokens(config, 2 * T, 1);
    const dropout = { p: 0.5, seed: 9, step: 4, firstSlot: 3 };
    const { activations } = forward(config, weights, tokens, tokens, { dropout });
    const a = (name: string) => activations.get(name) ?? new Float64Array();
    const zeros = (values: Float64Array) => [...values].map((value) => value === 0);
    const dropped = (site: number, places: number) =>
      zeros(dropoutFactors(deriveKey(9, Stream.dropout, 4, site), 0.5, 3, 2, places));
    const added = (after: string, before: string) => zeros(a(after).map((value, i) => value - a(before)[i]));

    expect(zeros(a('x.0'))).toEqual(dropped(0, T * C));
    for (let l = 0; l < config.layers; l++) {
      expect(added(`middle.${l}`, `x.${l}`)).toEqual(dropped(2 + 3 * l, T * C));
      expect(added(`x.${l + 1}`, `middle.${l}`)).toEqual(dropped(3 + 3 * l, T * C));
      // Query 1 of each head sees keys 0 and 1.
      const probabilities = dropped(1 + 3 * l, H * T * T);
      for (let b = 0; b < 2; b++) {
        for (let h = 0; h < H; h++) {
          const place = (b * H + h) * T * T + T;
          const blind = probabilities[place] && probabilities[place + 1];
          expect(a(`attention.${l}`)[(b * T + 1) * C + (h * C) / H] === 0, `${l} ${b} ${h}`).toBe(blind);
        }
      }
    }
  });
});

describe('the reference GELU', () => {
  test('the reference GELU is zero, then the identity, far from the origin', () => {
    expect([...gelu([-20, 0, 20])].map((y) => y + 0)).toEqual([0, 0, 20]);
    // torch.nn.functional.gelu(torch.tensor(1.), approximate='tanh')
    expect(gelu([1])[0]).toBeCloseTo(0.8411919906, 9);
  });
});

describe('the reference fixed point', () => {
  const unit = 2 ** -40;

  test('the reference fixed point rounds to the nearest step, ties to even', () => {
    const rounded: [number, bigint][] = [
      [0, 0n],
      [-0, 0n],
      [0.5, 0n],
      [1.5, 2n],
      [2.5, 2n],
      [0.75, 1n],
      [-0.5, 0n],
      [-1.5, -2n],
      [-2.5, -2n],
      [-0.25, 0n],
      [-7, -7n],
      [2 ** 52 - 2 ** 28, 2n ** 52n - 2n ** 28n],
    ];
    for (const [steps, want] of rounded) expect(toFixedPoint(steps * unit), `${steps} steps`).toBe(want);
    expect(toFixedPoint(-(2 ** -149))).toBe(0n);
  });

  test('the reference fixed point refuses what it cannot hold', () => {
    expect([Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY].map(fixedPointStatus)).toEqual([1, 1, 1]);
    expect([4096, -4096, 4095.9998, -4095.9998].map(fixedPointStatus)).toEqual([2, 2, 0, 0]);
    expect(() => toFixedPoint(4096)).toThrow(RangeError);
  });

  test('a value of the reference fixed point comes back as the nearest float32, rounded once', () => {
    const steps = (n: bigint) => fromFixedPoint(n) / unit;
    expect(steps(2n ** 24n + 1n)).toBe(2 ** 24);
    expect(steps(2n ** 24n + 3n)).toBe(2 ** 24 + 4);
    // Float64 would round first to the tie, and then down.
    expect(steps(2n ** 60n + 2n ** 36n + 1n)).toBe(2 ** 60 + 2 ** 37);
    expect(steps(-(2n ** 60n) - 2n ** 36n)).toBe(-(2 ** 60));
    expect(steps(2n ** 63n - 1n)).toBe(2 ** 63);
    expect(steps(-(2n ** 63n))).toBe(-(2 ** 63));
    const integers = fc.oneof(
      fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
      fc.tuple(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), fc.nat(62)).map(([n, s]) => n >> BigInt(s)),
    );
    fc.assert(
      fc.property(integers, (n) => {
        const value = fromFixedPoint(n);
        expect(Math.fround(value)).toBe(value);
        const exact = BigInt(value / unit);
        const distance = (m: bigint) => (m > n ? m - n : n - m);
        const [bits] = new Int32Array(Float32Array.of(value).buffer);
        for (const neighbour of n === 0n ? [] : [bits - 1, bits + 1]) {
          const scaled = new Float32Array(Int32Array.of(neighbour).buffer)[0] / unit;
          if (Number.isInteger(scaled)) expect(distance(exact)).toBeLessThanOrEqual(distance(BigInt(scaled)));
        }
        const { low, high } = toWords(n);
        expect(fromWords(low, high)).toBe(n);
      }),
    );
  });

  test('the reference fixed point keeps float32 values of at least 2^-17 exactly, all others within half a step', () => {
    const values = fc.float({ min: -4095, max: 4095, noNaN: true });
    fc.assert(
      fc.property(values, (value) => {
        expect(Math.abs(Number(toFixedPoint(value)) - value / unit)).toBeLessThanOrEqual(0.5);
        if (Math.abs(value) >= 2 ** -17) expect(fromFixedPoint(toFixedPoint(value))).toBe(value);
      }),
    );
  });

  test('the reference fixed point sums parts to the same integers in any order', () => {
    const parts = [
      [1, -0.1],
      [2 ** -30, 0.1],
      [-1, 3 * unit],
    ];
    expect([...fixedPointSum(parts)]).toEqual([1024n, 3n]);
    expect(fixedPointSum(parts.toReversed())).toEqual(fixedPointSum(parts));
  });
});
