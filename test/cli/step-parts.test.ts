import fc from 'fast-check';
import { expect, it } from 'vitest';
import { mean, stepParts } from '../../src/cli/step-parts.js';

const sum = ({ computeMs, uploadMs, downloadMs, waitMs }: ReturnType<typeof stepParts>) =>
  computeMs + uploadMs + downloadMs + waitMs;

it('what a worker neither computes nor moves of a step is waiting', () => {
  expect(stepParts(70.2, { computeMs: 44.9, uploadMs: 7.2, downloadMs: 8.2 })).toEqual({
    computeMs: 44.9,
    uploadMs: 7.2,
    downloadMs: 8.2,
    waitMs: 9.9,
  });
});

it('a download that began in the step before is cut to what fits', () => {
  expect(stepParts(50, { computeMs: 44, uploadMs: 4, downloadMs: 8 })).toEqual({
    computeMs: 44,
    uploadMs: 4,
    downloadMs: 2,
    waitMs: 0,
  });
});

it('the parts of any step add up to it, and none is less than nothing', () => {
  const ms = fc.double({ min: 0, max: 1e6, noNaN: true });
  fc.assert(
    fc.property(ms, ms, ms, ms, (stepMs, computeMs, uploadMs, downloadMs) => {
      const parts = stepParts(stepMs, { computeMs, uploadMs, downloadMs });
      expect(sum(parts)).toBeCloseTo(Math.round(100 * stepMs) / 100, 6);
      for (const part of Object.values(parts)) expect(part).toBeGreaterThanOrEqual(0);
    }),
  );
});

it('a mean of steps is their time by their number', () => {
  expect(mean([1, 2, 6])).toBe(3);
});
