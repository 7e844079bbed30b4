import { expect } from 'vitest';

/** Fails unless the two have the same bits everywhere. One NaN is as good as another. */
export function sameBits(got: Float32Array, want: Float32Array, name: string): void {
  expect(got.length, name).toBe(want.length);
  const different = [...got.keys()].filter((n) => !Object.is(got[n], want[n]));
  const [n] = different;
  if (n !== undefined)
    expect.fail(
      `${name}: ${different.length} of ${want.length} values differ; value ${n} is ${got[n]}, not ${want[n]}`,
    );
}
