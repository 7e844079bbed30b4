import { expect } from 'vitest';

const hex = (bits: number) => bits.toString(16).padStart(8, '0');

/** Expects two arrays of float32 values to have the same bits; one NaN is as good as another. Names the first that differs. */
export function sameBits(got: Float32Array, want: Float32Array, what: string): void {
  const words = ({ buffer, byteOffset, length }: Float32Array) => new Uint32Array(buffer, byteOffset, length);
  const [a, b] = [words(got), words(want)];
  expect(a.length, `${what}: number of values`).toBe(b.length);
  const differs = (i: number) => a[i] !== b[i] && !(Number.isNaN(got[i]) && Number.isNaN(want[i]));
  const different = [...a.keys()].filter(differs);
  const [at] = different;
  if (at === undefined) return;
  const values = `${got[at]} (${hex(a[at])}), not ${want[at]} (${hex(b[at])})`;
  expect.fail(`${what}: ${different.length} of ${a.length} values differ, first ${at}: ${values}`);
}
