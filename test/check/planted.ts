import type { ShaderTexts } from '../../src/gpu/kernel.js';
import { loadShaders } from '../../src/node/shaders.js';

/** Shaders with one change. Throws where there is nothing to change. */
export function planted(shader: string, from: string, to: string): ShaderTexts {
  const texts = { ...loadShaders() };
  if (!texts[shader].includes(from)) throw new Error(`${shader} has no ${from}`);
  texts[shader] = texts[shader].replaceAll(from, to);
  return texts;
}

/** Products whose fast sums are wrong, and whose kept sums are right. */
export const wrongFast = () => planted('chain', '  return sum + x * y;', '  return sum + 2.0 * x * y;');
