import fc from 'fast-check';
import { expect, test } from 'vitest';
import { stepParts } from '../../src/bench/step-parts.js';

const sum = ({ computeMs, uploadMs, downloadMs, waitMs }: ReturnType<typeof stepParts>) =>
  computeMs + uploadMs + downloadMs + waitMs;

test('what a worker neither computes nor moves of a step is waiting', () => {
  expect(stepParts(70.2, [{ computeMs: 44.9, uploadMs: 7.2, downloadMs: 8.2 }])).toEqual({
    computeMs: 44.9,
    uploadMs: 7.2,
    downloadMs: 8.2,
    waitMs: 9.9,
  });
});

test('a slow step changes no part of the others, as it does not change the median step', () => {
  const usual = { computeMs: 40, uploadMs: 5, downloadMs: 6 };
  const slow = { computeMs: 400, uploadMs: 50, downloadMs: 60 };
  expect(stepParts(60, [usual, slow, usual])).toEqual({ ...usual, waitMs: 9 });
});

test('a download that began in the step before is cut to what fits', () => {
  expect(stepParts(50, [{ computeMs: 44, uploadMs: 4, downloadMs: 8 }])).toEqual({
    computeMs: 44,
    uploadMs: 4,
    downloadMs: 2,
    waitMs: 0,
  });
});

test('the parts of any step add up to it, and none is less than nothing', () => {
  const ms = fc.double({ min: 0, max: 1e6, noNaN: true });
  const reports = fc.array(fc.record({ computeMs: ms, uploadMs: ms, downloadMs: ms }), { minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(ms, reports, (stepMs, reports) => {
      const parts = stepParts(stepMs, reports);
      expect(sum(parts)).toBeCloseTo(Math.round(100 * stepMs) / 100, 6);
      for (const part of Object.values(parts)) expect(part).toBeGreaterThanOrEqual(0);
    }),
  );
});
