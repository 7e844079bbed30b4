import * as portable from './portable-math.js';

/**
 * The functions of float64 on the way to a digest or a sample whose bits JavaScript leaves to the engine. `hostMath` in
 * src/model/precision.ts chooses one of the two below.
 */
export interface HostMath {
  log(x: number): number;
  exp(x: number): number;
  cos(x: number): number;
  /** Cosine and sine of 2 pi word / 2^32, for an unsigned 32-bit integer. */
  cosSinOfTurn(word: number): readonly [number, number];
  /** `exponent`: a whole number, 0 or more. */
  power(base: number, exponent: number): number;
}

/** As the engine computes them: what f32 and f16 runs have always had. */
export const NATIVE_MATH: HostMath = {
  log: Math.log,
  exp: Math.exp,
  cos: Math.cos,
  cosSinOfTurn: (word) => {
    const angle = (2 * Math.PI * word) / 2 ** 32;
    return [Math.cos(angle), Math.sin(angle)];
  },
  power: (base, exponent) => base ** exponent,
};

/** The same bits on every engine. */
export const PORTABLE_MATH: HostMath = portable;
