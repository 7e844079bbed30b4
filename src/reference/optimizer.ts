import { power } from '../util/portable-math.js';
import { reciprocal, settle, sqrt } from './arithmetic.js';
import type { Floats } from './rows.js';

/*
 * The update in portable arithmetic (shaders/adamw.wgsl, squares.wgsl). What the host does is float64, of + - * / and square
 * roots; its results are rounded to float32 once.
 */
const f32 = Math.fround;

/** Values of a chunk of `squares`, and the values that its eight lanes take in turn, four each. */
const CHUNK = 4096;
const STEP = 32;

/**
 * gradients [n] -> the sum of the squares of each 4,096 values. Lane l of 8 has the values 32 i + 4 l to 32 i + 4 l + 3 of a
 * chunk and adds each of its four components on its own, i rising; then (0 + 1) + (2 + 3). The lanes are added in order.
 */
export function squares(gradients: Floats): Float32Array {
  const sums = new Float32Array(Math.ceil(gradients.length / CHUNK));
  for (let chunk = 0; chunk < sums.length; chunk++) {
    const end = Math.min((chunk + 1) * CHUNK, gradients.length);
    for (let lane = 0; lane < STEP; lane += 4) {
      const own = [0, 0, 0, 0];
      for (let first = chunk * CHUNK + lane; first < end; first += STEP)
        for (let k = 0; k < 4 && first + k < end; k++) own[k] = f32(own[k] + settle(gradients[first + k] ** 2));
      sums[chunk] = f32(sums[chunk] + f32(f32(own[0] + own[1]) + f32(own[2] + own[3])));
    }
  }
  return sums;
}

/** One tensor's values [n], changed in place. */
export interface AdamWState {
  readonly weights: Float32Array;
  /** First and second moments. */
  readonly m: Float32Array;
  readonly v: Float32Array;
}

export interface AdamWStep {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly weightDecay: number;
  readonly learningRate: number;
  /** Factor of all gradients. */
  readonly clipScale: number;
  /** The number of the update; 1 is the first. */
  readonly step: number;
  /** Whether weight decay applies to the tensor. */
  readonly decays: boolean;
}

/** What all updates of a step share, as the kernel gets it: float32 values. */
export interface UpdateNumbers {
  readonly clipScale: number;
  /** 1 where weight decay does not apply. */
  readonly decayFactor: number;
  readonly beta2: number;
  readonly oneMinusBeta1: number;
  readonly oneMinusBeta2: number;
  readonly stepSize: number;
  readonly inverseSqrtCorrection2: number;
  readonly epsilon: number;
}

/** One update of `state` by `gradients` [n], which are float32 values of the sums. */
export function adamW(state: AdamWState, gradients: Floats, step: AdamWStep): void {
  const { learningRate, weightDecay } = step;
  update(state, gradients, {
    clipScale: f32(step.clipScale),
    decayFactor: step.decays ? f32(1 - learningRate * weightDecay) : 1,
    beta2: f32(step.beta2),
    oneMinusBeta1: f32(1 - step.beta1),
    oneMinusBeta2: f32(1 - step.beta2),
    stepSize: f32(learningRate / (1 - power(step.beta1, step.step))),
    inverseSqrtCorrection2: f32(1 / Math.sqrt(1 - power(step.beta2, step.step))),
    epsilon: f32(step.epsilon),
  });
}

/** Like `adamW`, by the numbers that the kernel gets. */
export function update({ weights, m, v }: AdamWState, gradients: Floats, numbers: UpdateNumbers): void {
  const { clipScale, decayFactor, beta2, oneMinusBeta1, oneMinusBeta2, stepSize, inverseSqrtCorrection2, epsilon } =
    numbers;
  for (let i = 0; i < weights.length; i++) {
    const g = settle(clipScale * gradients[i]);
    const w = settle(weights[i] * decayFactor);
    m[i] = settle(m[i] + settle(f32(g - m[i]) * oneMinusBeta1));
    v[i] = settle(settle(v[i] * beta2) + settle(settle(g * g) * oneMinusBeta2));
    const denominator = f32(settle(sqrt(v[i]) * inverseSqrtCorrection2) + epsilon);
    weights[i] = settle(w - settle(stepSize * settle(m[i] * reciprocal(denominator))));
  }
}
