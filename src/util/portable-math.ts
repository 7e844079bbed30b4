/**
 * Functions of float64 whose bits are fixed: made of + - * /, comparisons, Math.floor and the layout of a float64, which
 * every JavaScript engine computes alike. The language leaves Math.log, Math.cos, Math.exp and `**` to the engine.
 *
 * Methods and coefficients of log, exp, cos and sin: fdlibm 5.3 (Sun Microsystems 1993: e_log.c, e_exp.c, k_cos.c,
 * k_sin.c, e_rem_pio2.c). Reduction by Cody and Waite, "Software Manual for the Elementary Functions", 1980. Errors are
 * below 1 ulp, and below 2 ulp in `cosSinOfTurn`.
 */

/** `base` to the power of the whole number `exponent`, 0 or more. */
export function power(base: number, exponent: number): number {
  let result = 1;
  for (let square = base, rest = exponent; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) result *= square;
    square *= square;
  }
  return result;
}

/** Eight bytes to take a float64 apart. DataView has one order of bytes everywhere. */
const parts = new DataView(new ArrayBuffer(8));

/** 2 to the power of `exponent`, a whole number from -1022 to 1023. */
export function powerOfTwo(exponent: number): number {
  parts.setInt32(0, (exponent + 1023) << 20);
  parts.setInt32(4, 0);
  return parts.getFloat64(0);
}

/** ln 2 in two parts: the first has 32 bits, so its products with the exponents are exact. */
const LN2_HIGH = 0.6931471803691238;
const LN2_LOW = 1.9082149292705877e-10;

/** The natural logarithm. NaN for what is below 0. */
export function log(x: number): number {
  if (x === 0) return -Infinity;
  if (!(x > 0 && x < Infinity)) return x > 0 ? x : Number.NaN;
  // x = 2^k (1 + f), with 1 + f between sqrt(1/2) and sqrt(2). Denormals are scaled first.
  const isTiny = x < 2 ** -1022;
  parts.setFloat64(0, isTiny ? x * 2 ** 54 : x);
  const high = parts.getInt32(0) + (0x3ff00000 - 0x3fe6a09e);
  const k = (high >> 20) - 0x3ff - (isTiny ? 54 : 0);
  parts.setInt32(0, (high & 0xfffff) + 0x3fe6a09e);
  const f = parts.getFloat64(0) - 1;
  const half = 0.5 * f * f;
  const s = f / (2 + f);
  const z = s * s;
  const w = z * z;
  const even = w * (0.3999999999940942 + w * (0.22222198432149784 + w * 0.15313837699209373));
  const odd = z * (0.6666666666666735 + w * (0.2857142874366239 + w * (0.1818357216161805 + w * 0.14798198605116586)));
  return s * (half + (odd + even)) + k * LN2_LOW - half + f + k * LN2_HIGH;
}

/** e to the power of x. */
export function exp(x: number): number {
  if (Number.isNaN(x)) return x;
  if (x > 710) return Infinity;
  if (x < -746) return 0;
  // x = k ln 2 + r, with |r| at most half of ln 2.
  const k = Math.floor(x * Math.LOG2E + 0.5);
  const high = x - k * LN2_HIGH;
  const low = k * LN2_LOW;
  const r = high - low;
  const z = r * r;
  const c =
    r -
    z *
      (0.16666666666666602 +
        z *
          (-2.7777777777015593e-3 +
            z * (6.613756321437934e-5 + z * (-1.6533902205465252e-6 + z * 4.1381367970572385e-8))));
  const y = 1 + ((r * c) / (2 - c) - low + high);
  // In two factors, because 2^k alone may be out of range.
  const most = Math.max(-1000, Math.min(1000, k));
  return y * powerOfTwo(most) * powerOfTwo(k - most);
}

/** The sine of x + rest, where |x| is at most pi / 4 and `rest` is below an ulp of x. */
function sinNearZero(x: number, rest: number): number {
  const z = x * x;
  const cube = z * x;
  const r =
    8.33333333332249e-3 +
    z * (-1.984126982985795e-4 + z * (2.7557313707070068e-6 + z * (-2.5050760253406863e-8 + z * 1.58969099521155e-10)));
  return x - (z * (0.5 * rest - cube * r) - rest - cube * -0.16666666666666632);
}

/** The cosine of x + rest, as `sinNearZero`. */
function cosNearZero(x: number, rest: number): number {
  const z = x * x;
  const r =
    z *
    (4.16666666666666e-2 +
      z *
        (-1.388888888887411e-3 +
          z *
            (2.480158728947673e-5 +
              z * (-2.7557314351390663e-7 + z * (2.087572321298175e-9 + z * -1.1359647557788195e-11)))));
  const half = 0.5 * z;
  const w = 1 - half;
  return w + (1 - w - half + (z * r - x * rest));
}

/** Cosine and sine of the angle `quarters` * pi / 2 + x + rest. */
function cosSin(quarters: number, x: number, rest: number): [number, number] {
  const c = cosNearZero(x, rest);
  const s = sinNearZero(x, rest);
  const q = quarters & 3;
  return q === 0 ? [c, s] : q === 1 ? [-s, c] : q === 2 ? [-c, -s] : [s, -c];
}

/** The largest angle of `cos` and `sin`: up to here the quarters times a part of pi / 2 is exact. */
export const LARGEST_ANGLE = 2 ** 20;

/** pi / 2 in three parts; the first two have 33 bits. */
const HALF_PI = [1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21] as const;

function cosSinOf(x: number): [number, number] {
  if (!(Math.abs(x) <= LARGEST_ANGLE)) return [Number.NaN, Number.NaN];
  const quarters = Math.floor(x * 0.6366197723675814 + 0.5);
  const first = x - quarters * HALF_PI[0];
  const second = quarters * HALF_PI[1];
  const near = first - second;
  const third = quarters * HALF_PI[2] - (first - near - second);
  const r = near - third;
  return cosSin(quarters, r, near - r - third);
}

/** The cosine of x radians. NaN above LARGEST_ANGLE. */
export function cos(x: number): number {
  return cosSinOf(x)[0];
}

/** The sine of x radians. NaN above LARGEST_ANGLE. */
export function sin(x: number): number {
  return cosSinOf(x)[1];
}

/** Cosine and sine of 2 pi word / 2^32. `word` is an unsigned 32-bit integer, so the reduction is exact. */
export function cosSinOfTurn(word: number): [number, number] {
  const quarters = Math.floor((word + 2 ** 29) / 2 ** 30);
  return cosSin(quarters, (word - quarters * 2 ** 30) * (Math.PI / 2 ** 31), 0);
}
