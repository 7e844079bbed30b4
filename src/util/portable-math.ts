/**
 * Functions of float64 whose bits are fixed: made of + - * / and Math.sqrt, which every JavaScript engine computes alike. The
 * language leaves Math.log, Math.cos, Math.exp and `**` to the engine.
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
