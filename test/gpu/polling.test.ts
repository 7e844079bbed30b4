import { describe, expect, test } from 'vitest';
import { pollDelay } from '../../src/node/polling.js';

describe('the polls of a wait', () => {
  test('are timers on a software adapter from the first on, later and later up to 8 ms', () => {
    expect([0, 0.5, 1, 150, 200, 400, 1600, 1e5].map((waited) => pollDelay(waited, true))).toEqual([
      1, 1, 1, 1, 1, 2, 8, 8,
    ]);
  });

  test('are immediate on a GPU for a millisecond, then timers', () => {
    expect([0, 0.5, 0.99].map((waited) => pollDelay(waited, false))).toEqual([undefined, undefined, undefined]);
    expect([1, 1.5, 400, 1e5].map((waited) => pollDelay(waited, false))).toEqual([1, 1, 2, 8]);
  });
});
