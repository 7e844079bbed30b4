import { type HostMath, NATIVE_MATH, PORTABLE_MATH } from '../util/host-math.js';

/**
 * The arithmetic of a run. `portable`: the bits are the same on every adapter (shaders/portable.wgsl). `f32`: float32 as the
 * adapter's driver computes it. `f16`: matrix products and attention read float16, sums stay float32.
 */
export const PRECISIONS = ['portable', 'f32', 'f16'] as const;
export type Precision = (typeof PRECISIONS)[number];

/** The functions of float64 that a run computes with on its host: of fixed bits in portable arithmetic, else the engine's. */
export function hostMath(precision: Precision | undefined): HostMath {
  return precision === 'portable' ? PORTABLE_MATH : NATIVE_MATH;
}
