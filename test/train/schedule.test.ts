import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { learningRateAt, type Schedule } from '../../src/train/schedule.js';

const cosine: Schedule = { schedule: 'cosine', learningRate: 2, warmupSteps: 10, totalSteps: 110 };
const constant: Schedule = { ...cosine, schedule: 'constant' };

describe('the learning rate', () => {
  test('the learning rate rises in equal shares, of which the first update takes one, to the peak', () => {
    for (const s of [cosine, constant])
      expect([1, 2, 5, 10].map((step) => learningRateAt(s, step))).toEqual([0.2, 0.4, 1, 2]);
  });

  test('the learning rate stays at the peak from the first update on without warm-up', () => {
    const s = { ...constant, warmupSteps: 0 };
    expect([1, 2, 110, 1000].map((step) => learningRateAt(s, step))).toEqual([2, 2, 2, 2]);
  });

  test('the learning rate falls by a cosine: half-way at the middle of peak and floor, a tenth of the peak at the end', () => {
    expect(learningRateAt(cosine, 60)).toBeCloseTo((2 + 0.2) / 2, 12);
    expect(learningRateAt(cosine, 110)).toBeCloseTo(0.2, 12);
    expect(learningRateAt(cosine, 35)).toBeCloseTo(0.2 + 1.8 * 0.5 * (1 + Math.SQRT1_2), 12);
    expect(learningRateAt(cosine, 500), 'past the end').toBeCloseTo(0.2, 12);
  });

  test('the learning rate begins to fall at once without warm-up', () => {
    const s = { ...cosine, warmupSteps: 0 };
    expect(learningRateAt(s, 1)).toBeLessThan(2);
    expect(learningRateAt(s, 1)).toBeGreaterThan(1.99);
  });

  test('the learning rate is positive, at most the peak and falling after the warm-up, for every cosine', () => {
    const steps = fc.integer({ min: 0, max: 50 });
    fc.assert(
      fc.property(steps, fc.integer({ min: 1, max: 200 }), (warmupSteps, totalSteps) => {
        const s = { ...cosine, warmupSteps, totalSteps };
        let previous = Number.POSITIVE_INFINITY;
        for (let step = 1; step <= totalSteps; step++) {
          const rate = learningRateAt(s, step);
          expect(rate).toBeGreaterThan(0);
          expect(rate).toBeLessThanOrEqual(2);
          if (step > warmupSteps) expect(rate).toBeLessThanOrEqual(previous);
          previous = step > warmupSteps ? rate : Number.POSITIVE_INFINITY;
        }
      }),
    );
  });
});
