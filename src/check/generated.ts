import { gridByte, LEAST_GRID_EXPONENT } from '../model/grid.js';
import type { Parameter } from '../model/parameters.js';
import { fillUniform, type Key, threefry } from '../util/random.js';

/* What kernels are checked on where no run has computed it. */

/** Length of the random numbers that are repeated over a parameter: cheap even for the largest models. */
export const STRETCH = 65537;

/** Values of a parameter, uniform in [-bound, bound); gains are around 1. */
export function generatedValues(parameter: Parameter, key: Key, bound: number): Float32Array {
  const stretch = new Float32Array(STRETCH);
  fillUniform(key, stretch, bound);
  const values = new Float32Array(parameter.size);
  for (let at = 0; at < values.length; at += STRETCH) values.set(stretch.subarray(0, values.length - at), at);
  if (parameter.kind === 'gain') for (let i = 0; i < values.length; i++) values[i] += 1;
  return values;
}

/** Exponents of a generated grid: most are drawn from so many, and one in so many blocks has the least of all. */
const FIRST_EXPONENT = -30;
const EXPONENTS = 23;
const FINEST_EACH = 7;

/** `words` words of grid bytes, with exponents from -30 to -8, some of -40, and all kinds of neighbours. */
export function generatedGrid(words: number, key: Key): Uint32Array {
  const bytes = Uint8Array.from({ length: 4 * words }, (_, block) => {
    const [a, b] = threefry(key, block, 0);
    return gridByte(a % FINEST_EACH === 0 ? LEAST_GRID_EXPONENT : FIRST_EXPONENT + (b % EXPONENTS), b >>> 31 === 1);
  });
  return Uint32Array.from({ length: words }, (_, i) => new DataView(bytes.buffer).getUint32(4 * i, true));
}
