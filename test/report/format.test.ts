import { describe, expect, test } from 'vitest';
import { formatBytes, describe as lineOf } from '../../src/report/format.js';

describe('numbers as people read them', () => {
  test.each([
    [0, '0 kB'],
    [262_144, '262 kB'],
    [999_499, '999 kB'],
    [999_500, '1 MB'],
    [21_900_000, '22 MB'],
    [999_499_999, '999 MB'],
    [999_500_000, '1.00 GB'],
    [3_734_000_000, '3.73 GB'],
  ])('%i bytes are said as people read them', (bytes, text) => expect(formatBytes(bytes)).toBe(text));

  test('the time of a run that was resumed is said of its last part only', () => {
    const done = { event: 'done', step: 60, digest: 'd', seconds: 9 } as const;
    const info = { title: '', steps: 60, firstStep: 0, stepsPerEpoch: 10 };
    expect(lineOf(done, info)).toBe('done     60 steps in 9s');
    expect(lineOf(done, { ...info, firstStep: 20 })).toBe('done     60 steps, from step 20 on, in 9s');
  });
});
