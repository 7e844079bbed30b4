import { COUNT_SCALES } from './format.js';

/** Significant digits of a tick's value; further ones are rounding noise. */
const DIGITS = 12;

/** The decimals that multiples of `increment` need: 0 for 5, 1 for 2.5, 2 for 0.25. */
function decimalsOf(increment: number): number {
  for (let decimals = 0; decimals < DIGITS; decimals++) {
    const scaled = increment * 10 ** decimals;
    if (Math.abs(scaled - Math.round(scaled)) < 1e-6 * scaled) return decimals;
  }
  return DIGITS;
}

/** The label of a tick on an axis of multiples of `increment`, with the decimals that they need. */
export function numberTick(value: number, increment: number): string {
  return value.toFixed(decimalsOf(increment));
}

/** `500k`, `1.25M`, `1.2345M`: all digits of a tick, where `formatCount` shows at most three. */
export function countTick(value: number): string {
  const [scale, unit] = COUNT_SCALES.find(([least]) => Math.abs(value) >= least) ?? [1, ''];
  return Number((value / scale).toPrecision(DIGITS)) + unit;
}

/** `2.5s`, `1m 30s`, `5h`, `1d 02h 05m`: all of a tick, where `formatDuration` shows two units and whole seconds. */
export function durationTick(seconds: number): string {
  const rounded = Number(seconds.toPrecision(DIGITS));
  const parts = [
    [Math.floor(rounded / 86_400), 'd'],
    [Math.floor((rounded % 86_400) / 3600), 'h'],
    [Math.floor((rounded % 3600) / 60), 'm'],
    [Number((rounded % 60).toPrecision(DIGITS)), 's'],
  ] as const;
  const first = parts.findIndex(([value]) => value > 0);
  const last = parts.findLastIndex(([value]) => value > 0);
  if (first < 0) return '0s';
  return parts
    .slice(first, last + 1)
    .map(([value, unit], i) => `${i > 0 ? String(value).padStart(2, '0') : value}${unit}`)
    .join(' ');
}

const MINUTE = 60;
const HOUR = 3600;
const DAY = 86_400;

/** Distances between ticks on an axis of time, in seconds. */
export const DURATION_INCREMENTS: readonly number[] = [
  ...[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30],
  ...[1, 2, 5, 10, 15, 30].map((minutes) => minutes * MINUTE),
  ...[1, 2, 3, 6, 12].map((hours) => hours * HOUR),
  ...[1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].map((days) => days * DAY),
];

/** Distances between ticks on an axis of whole numbers: 1, 2, 5, 10 ... */
export const WHOLE_INCREMENTS: readonly number[] = Array.from({ length: 15 }, (_, power) =>
  [1, 2, 5].map((factor) => factor * 10 ** power),
).flat();
