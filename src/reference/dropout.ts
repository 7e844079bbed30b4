import { threefry } from '../util/random.js';

/** The words of a uniform DropoutKey (shaders/random.wgsl). */
export interface DropoutWords {
  readonly k0: number;
  readonly k1: number;
  /** The slot of the first sequence. */
  readonly firstSlot: number;
  /** A value is dropped where its 32 random bits are below. */
  readonly threshold: number;
  /** The float32 factor of what is kept. */
  readonly scale: number;
}

/** The factor of the value at `place` of a sequence, the `sequence`-th from the key's first slot on: 0 or scale. */
export function dropoutFactor({ k0, k1, firstSlot, threshold, scale }: DropoutWords, sequence: number, place: number) {
  const word = threefry([k0, k1], firstSlot + sequence, place >>> 1)[place & 1];
  return word < threshold ? 0 : scale;
}
