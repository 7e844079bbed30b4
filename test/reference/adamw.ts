import type { Values } from './operations.js';

export interface AdamWState {
  /** Updates taken so far. */
  step: number;
  /** First moments by parameter name; a tensor is added with its first gradient. */
  readonly m: Map<string, Float64Array>;
  /** Second moments, likewise. */
  readonly v: Map<string, Float64Array>;
}

export interface AdamWOptions {
  readonly learningRate: number;
  readonly weightDecay: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** Whether a parameter decays. Default: all do, as in torch.optim.AdamW. */
  readonly decays?: (name: string) => boolean;
  /** Factor of every gradient. Default 1. */
  readonly clipScale?: number;
}

export function freshAdamW(): AdamWState {
  return { step: 0, m: new Map(), v: new Map() };
}

/** One update of `weights` and `state`, in place: Loshchilov and Hutter, arXiv 1711.05101, as torch.optim.AdamW does. */
export function adamW(
  weights: ReadonlyMap<string, Float64Array>,
  gradients: ReadonlyMap<string, Values>,
  state: AdamWState,
  options: AdamWOptions,
): void {
  const { learningRate, weightDecay, beta1, beta2, epsilon, decays = () => true, clipScale = 1 } = options;
  state.step += 1;
  const correction1 = 1 - beta1 ** state.step;
  const correction2 = 1 - beta2 ** state.step;
  for (const [name, w] of weights) {
    const gradient = gradients.get(name);
    if (gradient?.length !== w.length) throw new RangeError(`no gradient that fits ${name}`);
    const m = state.m.get(name) ?? new Float64Array(w.length);
    const v = state.v.get(name) ?? new Float64Array(w.length);
    state.m.set(name, m);
    state.v.set(name, v);
    const decay = decays(name) ? learningRate * weightDecay : 0;
    for (let i = 0; i < w.length; i++) {
      const g = gradient[i] * clipScale;
      m[i] = beta1 * m[i] + (1 - beta1) * g;
      v[i] = beta2 * v[i] + (1 - beta2) * g * g;
      const adam = m[i] / correction1 / (Math.sqrt(v[i] / correction2) + epsilon);
      w[i] = w[i] * (1 - decay) - learningRate * adam;
    }
  }
}

/** The 2-norm of all gradients together. */
export function gradientNorm(gradients: ReadonlyMap<string, Values>): number {
  let squares = 0;
  for (const gradient of gradients.values())
    for (let i = 0; i < gradient.length; i++) squares += gradient[i] * gradient[i];
  return Math.sqrt(squares);
}
