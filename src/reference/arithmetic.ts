/**
 * The arithmetic of shaders/portable.wgsl in plain TypeScript: what `--precision portable` computes, on any adapter.
 * `Math.fround` rounds every result to float32.
 */
const f32 = Math.fround;
const floats = new Float32Array(1);
const words = new Uint32Array(floats.buffer);

export function bitsOf(x: number): number {
  floats[0] = x;
  return words[0];
}

export function fromBits(bits: number): number {
  words[0] = bits;
  return floats[0];
}

const SETTLED = 2 ** -100;
const SMALLEST_OPERAND = 2 ** -50;

/** The float32 nearest to x; magnitudes below 2^-100, and -0, become +0. */
export function settle(x: number): number {
  const v = f32(x);
  return Math.abs(v) < SETTLED ? 0 : v;
}

/** x rounded to 12 significant bits, ties to even; magnitudes below 2^-50 become +0; NaN and infinity pass. */
export function rounded(x: number): number {
  const v = f32(x);
  if (!Number.isFinite(v)) return v;
  if (Math.abs(v) < SMALLEST_OPERAND) return 0;
  const bits = bitsOf(v);
  return fromBits((bits + 0x7ff + ((bits >>> 12) & 1)) & 0xfffff000);
}

/** `reciprocal4`: 1 / x. */
export function reciprocal(x: number): number {
  let r = fromBits(0x7ef311c3 - bitsOf(x));
  r = f32(r * f32(2 - f32(x * r)));
  r = f32(r * f32(2 - f32(x * r)));
  return f32(r + f32(r * f32(1 - f32(x * r))));
}

function roughInverseSqrt(x: number, half: number): number {
  let y = fromBits(0x5f375a86 - (bitsOf(x) >>> 1));
  y = f32(y * f32(1.5 - f32(half * f32(y * y))));
  return f32(y * f32(1.5 - f32(half * f32(y * y))));
}

/** `inverseSquareRoot`: 1 / sqrt(x). */
export function inverseSqrt(x: number): number {
  const half = f32(0.5 * x);
  const y = roughInverseSqrt(x, half);
  return f32(y + f32(y * f32(0.5 - f32(half * f32(y * y)))));
}

/** `squareRoot4`: sqrt(x). */
export function sqrt(x: number): number {
  if (x === 0) return 0;
  const y = roughInverseSqrt(x, f32(0.5 * x));
  const s = f32(x * y);
  return f32(s + f32(s * f32(0.5 - f32(s * f32(0.5 * y)))));
}

const EXP2 = [1.53458124e-4, 1.33999309e-3, 9.61848907e-3, 5.55032864e-2, 2.40226462e-1, 6.93147182e-1, 1].map(f32);

/** `exp2Less4`: 2^(t - m), where m is a whole number. */
export function exp2Less(t: number, m: number): number {
  if (!Number.isFinite(t)) return Number.NaN;
  const n = Math.floor(f32(t + 0.5));
  const f = f32(t - n);
  let p = EXP2[0];
  for (const c of EXP2.slice(1)) p = f32(f32(p * f) + c);
  const exponent = Math.min(Math.max(f32(n - m), -101), 127);
  return exponent < -100 ? 0 : fromBits(bitsOf(p) + exponent * 2 ** 23);
}

/** `exp2Of4`: 2^x. */
export function exp2(x: number): number {
  return exp2Less(x, 0);
}

const LOG2 = [
  -0.109949544, 0.186174959, -0.191062748, 0.204600617, -0.239617407, 0.288567394, -0.360696644, 0.480898231,
  -0.721347332, 1.44269502,
].map(f32);

/** `log2Of`: the logarithm to base 2. */
export function log2(x: number): number {
  const bits = bitsOf(x);
  if (bits >= 0x7f800000) return Number.NaN;
  const halved = (bits & 0x7fffff) >= 0x3504f3 ? 1 : 0;
  const f = f32(fromBits((bits & 0x7fffff) | ((127 - halved) << 23)) - 1);
  let p = LOG2[0];
  for (const c of LOG2.slice(1)) p = f32(f32(p * f) + c);
  return f32((bits >>> 23) - 127 + halved + f32(p * f));
}
