import fc from 'fast-check';
import { expect, test } from 'vitest';
import { countTick, DURATION_INCREMENTS, durationTick, numberTick, WHOLE_INCREMENTS } from '../../src/report/ticks.js';

test('a tick has the decimals that its increment needs', () => {
  expect([0, 2.5, 5, 7.5].map((value) => numberTick(value, 2.5))).toEqual(['0.0', '2.5', '5.0', '7.5']);
  expect([2, 2.25, 2.5].map((value) => numberTick(value, 0.25))).toEqual(['2.00', '2.25', '2.50']);
  expect([0, 20].map((value) => numberTick(value, 20))).toEqual(['0', '20']);
  expect(numberTick(3 * 0.1, 0.1)).toBe('0.3');
  expect(numberTick(0.00025, 0.00005)).toBe('0.00025');
});

test('ticks of counts have a unit and all their digits', () => {
  expect([0, 2.5, 12.5, 500, 1500, 999_500, 1_234_000, 1_234_500, 3e9].map(countTick)).toEqual(
    ['0', '2.5', '12.5', '500', '1.5k', '999.5k', '1.234M', '1.2345M', '3G'], // biome-ignore format: one row
  );
});

test('ticks of times have all their units', () => {
  expect([0, 0.5, 2.5, 60, 90, 3600, 5000, 5430, 86_400, 93_900].map(durationTick)).toEqual(
    ['0s', '0.5s', '2.5s', '1m', '1m 30s', '1h', '1h 23m 20s', '1h 30m 30s', '1d', '1d 02h 05m'], // biome-ignore format: one row
  );
});

/** The number that a label says. */
function said(text: string): number {
  const units: Readonly<Record<string, number>> = { d: 86_400, h: 3600, m: 60, s: 1, k: 1e3, M: 1e6, G: 1e9, '': 1 };
  return text.split(' ').reduce((sum, part) => {
    const [, number, unit] = /^(-?[\d.]+)([a-zA-Z]?)$/.exec(part) ?? [];
    return sum + Number(number) * units[unit];
  }, 0);
}

test('no tick says another value than its own, whatever the axis', () => {
  const check = (increments: readonly number[], label: (value: number, increment: number) => string) =>
    fc.assert(
      fc.property(fc.constantFrom(...increments), fc.nat(5000), (increment, times) => {
        const value = increment * times;
        expect(Math.abs(said(label(value, increment)) - value)).toBeLessThan(increment * 1e-3);
      }),
    );
  const ofPlots = [-6, -3, 0, 3].flatMap((power) => [1, 2, 2.5, 5].map((factor) => factor * 10 ** power));
  check(ofPlots, numberTick);
  check([...WHOLE_INCREMENTS.slice(0, 24), 2.5, 0.25], countTick);
  check(DURATION_INCREMENTS, durationTick);
});
