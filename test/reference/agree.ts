import { expect } from 'vitest';

export interface Offender {
  readonly index: number;
  readonly got: number;
  readonly want: number;
  /** |got - want| over the largest |want| (at least 1e-30). */
  readonly error: number;
}

/** The worst value: the largest |got - want| relative to the largest |want|. NaN is worse than any number. */
export function worst(got: ArrayLike<number>, want: ArrayLike<number>): Offender {
  if (got.length !== want.length) throw new Error(`${got.length} values, ${want.length} wanted`);
  let scale = 1e-30;
  for (let i = 0; i < want.length; i++) scale = Math.max(scale, Math.abs(want[i]));
  let found: Offender = { index: -1, got: 0, want: 0, error: 0 };
  for (let i = 0; i < want.length; i++) {
    const distance = Math.abs(got[i] - want[i]) / scale;
    const error = Number.isNaN(distance) ? Number.POSITIVE_INFINITY : distance;
    if (error > found.error) found = { index: i, got: got[i], want: want[i], error };
  }
  return found;
}

/** Fails, with index and values of the worst offender, unless every error is within `tolerance` of the largest |want|. */
export function agree(got: ArrayLike<number>, want: ArrayLike<number>, tolerance: number, what = 'values'): void {
  const w = worst(got, want);
  expect(w.error, `${what}: worst at ${w.index}: got ${w.got}, want ${w.want}`).toBeLessThanOrEqual(tolerance);
}
