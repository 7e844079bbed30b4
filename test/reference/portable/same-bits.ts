import { expect } from 'vitest';

const hex = (bits: number) => bits.toString(16).padStart(8, '0');

/** Expects two arrays of float32 values to be the same in every bit, and none NaN; names the first value that is not. */
export function sameBits(got: Float32Array, want: Float32Array, what: string): void {
  const words = ({ buffer, byteOffset, length }: Float32Array) => new Uint32Array(buffer, byteOffset, length);
  const [a, b] = [words(got), words(want)];
  expect(a.length, `${what}: number of values`).toBe(b.length);
  expect(want.findIndex(Number.isNaN), `${what}: a NaN among what is wanted`).toBe(-1);
  const at = a.findIndex((bits, i) => bits !== b[i]);
  const differ = a.filter((bits, i) => bits !== b[i]).length;
  const first = `${what}: ${differ} of ${a.length} values differ, first ${at}: ${got[at]} (${hex(a[at] ?? 0)})`;
  expect(at, `${first}, not ${want[at]} (${hex(b[at] ?? 0)})`).toBe(-1);
}
