/** The oracle of shaders/fixed_point.wgsl: integers count steps of 2^-40, as 64-bit two's complement. */
const STEPS = 2 ** 40;

/** Bits of a status word. */
export const STATUS_NONFINITE = 1;
export const STATUS_OVERFLOW = 2;

/** The status of `value`: 0 if fixed point holds it, otherwise one of the bits above. */
export function fixedPointStatus(value: number): number {
  if (!Number.isFinite(value)) return STATUS_NONFINITE;
  return Math.abs(value) >= 2 ** 12 ? STATUS_OVERFLOW : 0;
}

/** value * 2^40, rounded to the nearest integer, ties to even. Throws RangeError where `fixedPointStatus` is not 0. */
export function toFixedPoint(value: number): bigint {
  if (fixedPointStatus(value) !== 0) throw new RangeError(`${value} does not fit fixed point`);
  // Exact in float64: a multiplication by a power of two, then the parts before and after the point.
  const scaled = Math.abs(value) * STEPS;
  const whole = Math.floor(scaled);
  const rest = scaled - whole;
  const up = rest > 0.5 || (rest === 0.5 && whole % 2 === 1);
  const magnitude = BigInt(whole) + (up ? 1n : 0n);
  return value < 0 ? -magnitude : magnitude;
}

/** The float32 nearest to sum * 2^-40, ties to even; `sum` is any signed 64-bit integer. */
export function fromFixedPoint(sum: bigint): number {
  const magnitude = sum < 0n ? -sum : sum;
  const excess = Math.max(0, magnitude.toString(2).length - 24);
  const unit = 1n << BigInt(excess);
  const rest = magnitude % unit;
  const kept = magnitude / unit;
  const up = rest * 2n > unit || (rest * 2n === unit && kept % 2n === 1n);
  const rounded = Number(kept + (up ? 1n : 0n)) * 2 ** excess;
  return (sum < 0n ? -rounded : rounded) / STEPS;
}

/** The two u32 words of a signed 64-bit integer. */
export function toWords(sum: bigint): { low: number; high: number } {
  const bits = BigInt.asUintN(64, sum);
  return { low: Number(bits & 0xffffffffn), high: Number(bits >> 32n) };
}

/** The signed 64-bit integer of two u32 words. */
export function fromWords(low: number, high: number): bigint {
  return BigInt.asIntN(64, (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0));
}

/** Element by element, the exact fixed-point sum of all parts, wrapping round as 64-bit integers do. */
export function fixedPointSum(parts: readonly ArrayLike<number>[]): BigInt64Array {
  const sums = new BigInt64Array(parts[0].length);
  for (const part of parts) for (let i = 0; i < sums.length; i++) sums[i] += toFixedPoint(part[i]);
  return sums;
}
