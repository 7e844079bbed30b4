import type { Decoder } from '../model/decoder.js';
import { hostMath } from '../model/precision.js';
import type { HostMath } from '../util/host-math.js';
import { type Key, uniformAt } from '../util/random.js';

export interface Sampling {
  /** Tokens to draw. */
  readonly count: number;
  /** Divides the logits; 0 always takes the likeliest token. */
  readonly temperature: number;
  /** Only the k likeliest tokens can be drawn; 0 keeps all. */
  readonly topK: number;
  readonly key: Key;
}

/**
 * Draws `count` tokens after `prompt` (at least one token). When the context is full, its latest half is read again from an
 * empty context, and drawing goes on from there.
 */
export async function* sampleTokens(
  decoder: Decoder,
  prompt: readonly number[],
  sampling: Sampling,
): AsyncGenerator<number> {
  const { context } = decoder.weights.layout.config;
  const kept = Math.max(1, context >> 1);
  const tokens = prompt.length < context ? [...prompt] : prompt.slice(-kept);
  const math = hostMath(decoder.precision);
  decoder.reset();
  for (const token of tokens) decoder.push(token);
  for (let i = 0; i < sampling.count; i++) {
    const token = pick(await decoder.logits(), sampling, uniformAt(sampling.key, i), math);
    yield token;
    tokens.push(token);
    if (decoder.length < context) decoder.push(token);
    else {
      decoder.reset();
      for (const recent of tokens.slice(-kept)) decoder.push(recent);
    }
  }
}

/** The token that `u`, uniform in [0, 1), selects from the distribution of `logits`. */
export function pick(
  logits: Float32Array,
  sampling: Pick<Sampling, 'temperature' | 'topK'>,
  u: number,
  math: HostMath,
): number {
  const { temperature, topK } = sampling;
  const best = logits.reduce((top, x, i) => (x > logits[top] ? i : top), 0);
  if (temperature === 0) return best;
  let candidates = Array.from(logits.keys());
  if (topK > 0 && topK < logits.length) {
    // Equal logits keep the order of their ids, so that the choice is the same everywhere.
    candidates = candidates.sort((a, b) => logits[b] - logits[a] || a - b).slice(0, topK);
  }
  const weights = candidates.map((i) => math.exp((logits[i] - logits[best]) / temperature));
  let rest = u * weights.reduce((a, b) => a + b, 0);
  for (const [i, weight] of weights.entries()) {
    rest -= weight;
    if (rest < 0) return candidates[i];
  }
  return candidates[candidates.length - 1];
}
