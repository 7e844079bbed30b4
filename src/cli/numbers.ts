import { InvalidArgumentError } from 'commander';

/**
 * Parses a number of a command line: decimal, with an optional fraction or power of ten (`1e-4`). Throws
 * InvalidArgumentError for other forms that JavaScript accepts (`0x10`, `Infinity`, an empty text as 0).
 */
export function decimal(text: string, wanted = 'is not a number'): number {
  if (/^\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*$/i.test(text)) {
    const value = Number(text);
    if (Number.isFinite(value)) return value;
    throw new InvalidArgumentError('is too large a number');
  }
  const scaled = /^\s*(\d+(?:\.\d+)?)\s*(k|m|g)\s*$/i.exec(text);
  if (scaled === null) throw new InvalidArgumentError(wanted);
  const factor = { k: 1e3, m: 1e6, g: 1e9 }[scaled[2].toLowerCase()] ?? 1;
  throw new InvalidArgumentError(`is not a number; write ${Number(scaled[1]) * factor}`);
}

/** A parser of whole numbers from `least` to `most`. */
export const whole =
  (least: number, most = Number.MAX_SAFE_INTEGER) =>
  (text: string): number => {
    const wanted = `must be a whole number of at least ${least}`;
    const value = decimal(text, wanted);
    if (!Number.isInteger(value)) throw new InvalidArgumentError(wanted);
    return within(value, least, most);
  };

/** A parser of numbers from `least` to `most`. */
export const amount =
  (least = 0, most = Number.POSITIVE_INFINITY) =>
  (text: string): number =>
    within(decimal(text), least, most);

/** Parses a port; 0 takes a free one. */
export const port = whole(0, 65_535);

function within(value: number, least: number, most: number): number {
  if (value < least) throw new InvalidArgumentError(`must be at least ${least}`);
  if (value > most) throw new InvalidArgumentError(`must be at most ${most}`);
  return value;
}
