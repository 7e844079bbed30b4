import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { deal, estimates, handBackCount, Speed } from '../../../cluster/round/load-balance.js';

const load = (microBatchMs: number, loadMs = 0) => ({ microBatchMs, loadMs });
const loads = fc.array(
  fc.record({ microBatchMs: fc.double({ min: 0.1, max: 1e4, noNaN: true }), loadMs: fc.constant(0) }),
  {
    minLength: 1,
    maxLength: 8,
  },
);

describe('shares', () => {
  test('shares are in proportion to speed', () => {
    expect(deal(60, [load(10), load(20), load(30)], 0)).toEqual([33, 16, 11]);
    expect(deal(8, [load(100), load(100)], 50)).toEqual([4, 4]);
  });

  test('shares count what a worker has to do already', () => {
    expect(deal(6, [load(10, 40), load(10)], 0)).toEqual([1, 5]);
  });

  test('shares add up, and no move of one micro-batch ends earlier', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 1024 }),
        loads,
        fc.double({ min: 0, max: 100, noNaN: true }),
        (n, all, o) => {
          const shares = deal(n, all, o);
          expect(shares.reduce((a, b) => a + b)).toBe(n);
          const end = Math.max(...shares.map((share, i) => (share > 0 ? o + share * all[i].microBatchMs : 0)));
          for (const [i, { microBatchMs }] of all.entries())
            expect(o + (shares[i] + 1) * microBatchMs).toBeGreaterThanOrEqual(end * (1 - 1e-9));
        },
      ),
    );
  });
});

describe('what is asked back', () => {
  test('what is asked back lets both end together', () => {
    expect(handBackCount(10, load(100, 1000), load(100), 0)).toBe(5);
    expect(handBackCount(10, load(100, 1000), load(10), 0)).toBe(9);
    expect(handBackCount(3, load(100, 1000), load(10), 0)).toBe(3);
  });

  test('nothing is asked back when little is won', () => {
    expect(handBackCount(10, load(100, 1000), load(900), 0)).toBe(0);
    expect(handBackCount(1, load(100, 150), load(100), 100)).toBe(0);
    expect(handBackCount(0, load(100, 1000), load(1), 0)).toBe(0);
  });
});

describe('speed', () => {
  test('speed takes the first sample as it is and then weighs the newest', () => {
    const speed = new Speed(0.5);
    expect(speed.microBatchMs).toBeUndefined();
    speed.sample(4, 400);
    expect(speed.microBatchMs).toBeCloseTo(100);
    speed.sample(2, 600);
    expect(speed.microBatchMs).toBeCloseTo(150);
  });

  test('speed is thought better again while there is nothing to measure', () => {
    const speed = new Speed(0.5);
    speed.slower(5000);
    for (let i = 0; i < 30; i++) speed.rest();
    expect(speed.microBatchMs).toBeLessThan(300);
  });

  test('the speed of unknown workers is the mean of the known', () => {
    expect(estimates([undefined, undefined])).toEqual([1000, 1000]);
    expect(estimates([50, undefined, 50])).toEqual([50, 50, 50]);
  });

  test('speeds settle, with a fixed upload, where all end together', () => {
    const upload = [300, 0];
    const compute = [50, 100];
    const speeds = [new Speed(0.4), new Speed(0.4)];
    let ends = [0, 0];
    for (let step = 0; step < 30; step++) {
      const each = estimates(speeds.map((s) => s.microBatchMs));
      const shares = deal(
        40,
        each.map((ms) => load(ms)),
        0,
      );
      ends = shares.map((share, i) => upload[i] + share * compute[i]);
      for (const [i, share] of shares.entries()) speeds[i].sample(share, ends[i]);
    }
    expect(Math.abs(ends[0] - ends[1])).toBeLessThan(150);
  });
});
