import { exp2Less, reciprocal, rounded, settle } from './arithmetic.js';
import { type AttentionShape, chain, scalesOf, score } from './attention.js';

/** Sampling, one token at a time, as `--precision portable` computes it in every bit (shaders/decode.wgsl). */
const f32 = Math.fround;

/** wte [V, C]; wpe [T, C] -> x [C], the embedding of `token` at `position`. */
export function embedToken(wte: Float32Array, wpe: Float32Array, C: number, token: number, position: number) {
  return Float32Array.from({ length: C }, (_, c) => settle(wte[token * C + c] + wpe[position * C + c]));
}

/**
 * qkv [3C] of the token at `position`, and the cache [T, 2C] with the keys and values of all tokens up to it, both
 * `rounded` -> out [C], `rounded`.
 */
export function cachedAttention(
  { heads, headSize: D }: Pick<AttentionShape, 'heads' | 'headSize'>,
  qkv: Float32Array,
  cache: Float32Array,
  position: number,
): Float32Array {
  const C = heads * D;
  const { scale2 } = scalesOf(D);
  const out = new Float32Array(C);
  for (let h = 0; h < heads; h++) {
    const t = Array.from({ length: position + 1 }, (_, j) => score(qkv, h * D, cache, j * 2 * C + h * D, D, scale2));
    const m = -Math.floor(-Math.max(...t));
    const p = t.map((x) => exp2Less(x, m));
    const inverse = reciprocal(p.reduce((sum, x) => f32(sum + x), 0));
    for (let c = h * D; c < (h + 1) * D; c++) {
      const value = chain(0, position + 1, (j) => rounded(p[j]) * cache[j * 2 * C + C + c]);
      out[c] = rounded(settle(value * inverse));
    }
  }
  return out;
}
