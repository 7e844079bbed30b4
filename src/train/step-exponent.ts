const parts = new DataView(new ArrayBuffer(8));

/** Smallest exponent of the steps in which weights move. */
export const LEAST_STEP_EXPONENT = -60;

/**
 * F, where the weights of the low wire move in steps of 2^F: max(-60, floor(log2 learningRate) - 1). From the bits of the
 * learning rate, because Math.log2 is not the same on every engine. Undefined where it is 0: then no weight moves.
 */
export function stepExponent(learningRate: number): number | undefined {
  if (learningRate === 0) return undefined;
  parts.setFloat64(0, learningRate);
  // A denormal has the field 0, which is far below the least exponent.
  const floorOfLog2 = ((parts.getUint16(0) >> 4) & 0x7ff) - 1023;
  return Math.max(LEAST_STEP_EXPONENT, floorOfLog2 - 1);
}
