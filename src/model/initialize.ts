import { deriveKey, fillNormal, fillUniform, Stream } from '../util/random.js';
import type { ModelConfig } from './config.js';
import type { Parameter } from './parameters.js';
import { hostMath, type Precision } from './precision.js';

export const INITIALIZATIONS = ['gpt2', 'pytorch'] as const;

/**
 * How fresh weights are drawn. `gpt2`: matrices and embeddings N(0, 0.02), residual projections scaled by
 * 1 / sqrt(2 layers), biases 0 (Radford et al. 2019, section 2.3). `pytorch`: PyTorch's defaults, Embedding N(0, 1), Linear
 * (weight and bias) U(+-1 / sqrt(fan in)). Both start LayerNorm with gain 1 and bias 0.
 */
export type Initialization = (typeof INITIALIZATIONS)[number];

/** The fresh values of tensor number `index` of `parameters(config)`, a function of (seed, index, precision). */
export function freshTensor(
  config: ModelConfig,
  parameter: Parameter,
  index: number,
  how: Initialization,
  seed: number,
  precision?: Precision,
): Float32Array {
  const math = hostMath(precision);
  const values = new Float32Array(parameter.size);
  const { kind, fanIn } = parameter;
  const key = deriveKey(seed, Stream.weights, index);
  if (kind === 'gain') values.fill(1);
  else if (how === 'gpt2') {
    if (kind !== 'bias') fillNormal(key, values, parameter.residual ? 0.02 / Math.sqrt(2 * config.layers) : 0.02, math);
  } else if (kind === 'embedding') fillNormal(key, values, 1, math);
  else if (fanIn > 0) fillUniform(key, values, 1 / Math.sqrt(fanIn));
  return values;
}
