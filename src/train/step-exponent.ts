/** Weights move in multiples of at least 2^-60. */
const LEAST_STEP_EXPONENT = -60;
/** Bits below the learning rate's own. */
const SHIFT = 1;

/**
 * The exponent F of the low wire's moves: weights follow the master weights in multiples of 2^F, half the power of two at or
 * below the learning rate. Undefined where the learning rate is 0: nothing moves.
 */
export function stepExponent(learningRate: number): number | undefined {
  if (learningRate <= 0) return undefined;
  const view = new DataView(new ArrayBuffer(8));
  view.setFloat64(0, learningRate);
  return Math.max(LEAST_STEP_EXPONENT, ((view.getUint16(0) >> 4) & 0x7ff) - 1023 - SHIFT);
}
