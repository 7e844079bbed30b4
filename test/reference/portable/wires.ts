import type { ParameterLayout } from '../../../src/model/layout.js';
import { fromFixedPoint, toFixedPoint } from '../../../src/reference/fixed-point.js';
import { gradientOf, gridExponents, move, moved, randomOf, roundToGrid } from '../../../src/reference/low-wire.js';
import { stepExponent } from '../../../src/train/step-exponent.js';
import { deriveKey, type Key, Stream } from '../../../src/util/random.js';

/* In which form the steps of train.ts sum up gradients and move weights. Tensors are by name. */

type Tensors = ReadonlyMap<string, Float32Array>;

/** How the gradients of one step are rounded and summed up. */
export interface Rounding {
  /** `value` i of the gradient of the tensor `name`, in the micro-batch whose first sequence has `slot`. */
  toInteger(name: string, i: number, value: number, slot: number): bigint;
  /** The gradient of such a sum. */
  fromSum(name: string, i: number, sum: bigint): number;
}

export const EXACT: Rounding = {
  toInteger: (_name, _i, value) => toFixedPoint(value),
  fromSum: (_name, _i, sum) => fromFixedPoint(sum),
};

/** The grid of the low wire. */
export class ReferenceGrid {
  /** Exponents of the blocks of 64 values of each tensor. */
  readonly exponents = new Map<string, readonly number[]>();

  constructor(
    private readonly layout: ParameterLayout,
    private readonly seed: number,
  ) {
    for (const { name, size } of layout.parameters)
      this.exponents.set(
        name,
        Array.from({ length: Math.ceil(size / 64) }, () => -40),
      );
  }

  #exponent(name: string, i: number): number {
    return (this.exponents.get(name) as readonly number[])[i >> 6];
  }

  /** The place in the flat array of the tensor's first value. */
  #placeOf(name: string): number {
    const { slabSizes } = this.layout;
    const [{ slab, offset }] = this.layout.piecesOf(name);
    return slabSizes.slice(0, slab).reduce((a, b) => a + b, 0) + offset;
  }

  rounding(step: number): Rounding {
    const key: Key = deriveKey(this.seed, Stream.rounding, step);
    const places = new Map(this.layout.parameters.map(({ name }) => [name, this.#placeOf(name)]));
    return {
      toInteger: (name, i, value, slot) =>
        roundToGrid(value, this.#exponent(name, i), randomOf(key, slot, (places.get(name) as number) + i)),
      fromSum: (name, i, sum) => gradientOf(sum, this.#exponent(name, i)),
    };
  }

  /** Takes the exponents of the next step from the second moments `v`; `factor`: see `gridExponents`. */
  follow(v: Tensors, factor: number): void {
    for (const [name, values] of v) this.exponents.set(name, gridExponents(values, factor));
  }
}

/** Moves `weights` towards `master`, in place. */
export function moveWeights(weights: Float32Array, master: Float32Array, learningRate: number): void {
  const exponent = stepExponent(learningRate);
  const [unit, inverseUnit] = exponent === undefined ? [0, 0] : [2 ** exponent, 2 ** -exponent];
  for (const [i, s] of weights.entries()) weights[i] = moved(s, move(master[i], s, inverseUnit), unit);
}
