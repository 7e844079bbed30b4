import { expect, test } from 'vitest';
import { RunClock } from '../../src/train/run-clock.js';

test('the clock stands while the run waits or is paused, and the two may overlap', () => {
  let time = 1000;
  const clock = new RunClock(() => time);
  const start = clock.now();
  const after = (ms: number) => {
    time += ms;
    return clock.now() - start;
  };
  expect(after(10)).toBe(10);
  clock.stand('waiting');
  expect(after(500)).toBe(10);
  clock.stand('paused');
  expect(after(500)).toBe(10);
  clock.goOn('waiting');
  expect(after(500)).toBe(10);
  clock.goOn('paused');
  expect(after(7)).toBe(17);
  // A repeated or unknown reason to go on does no harm.
  clock.goOn('paused');
  clock.stand('paused');
  clock.stand('paused');
  expect(after(500)).toBe(17);
  clock.goOn('paused');
  expect(after(3)).toBe(20);
});
