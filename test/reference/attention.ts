import { type Key, threefry } from '../../src/util/random.js';

export interface ReferenceShape {
  readonly batch: number;
  readonly context: number;
  readonly heads: number;
  readonly headSize: number;
}

export interface ReferenceDropout {
  readonly key: Key;
  readonly firstSlot: number;
  /** The chance that a probability is dropped. */
  readonly rate: number;
}

/** What `dropoutFactor` of shaders/random.wgsl returns. */
export function dropoutFactor(d: ReferenceDropout | undefined, slot: number, place: number): number {
  if (d === undefined) return 1;
  const word = threefry(d.key, slot, place >>> 1)[place & 1];
  return word < Math.floor(d.rate * 2 ** 32) ? 0 : 1 / (1 - d.rate);
}

/**
 * Causal attention in float64, as in a textbook, with every matrix. Layouts as in src/model/ops/attention.ts. `outGradient`
 * defaults to zero.
 */
export function attention(
  shape: ReferenceShape,
  qkv: ArrayLike<number>,
  outGradient?: ArrayLike<number>,
  dropout?: ReferenceDropout,
): { out: Float64Array; logsumexp: Float64Array; qkvGradient: Float64Array } {
  const { batch, context: T, heads, headSize: D } = shape;
  const C = heads * D;
  const scale = 1 / Math.sqrt(D);
  const out = new Float64Array(batch * T * C);
  const logsumexp = new Float64Array(batch * heads * T);
  const qkvGradient = new Float64Array(batch * T * 3 * C);
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      const at = (i: number, part: number) => ((b * T + i) * 3 + part) * C + h * D;
      for (let i = 0; i < T; i++) {
        const q = at(i, 0);
        const o = (b * T + i) * C + h * D;
        const scores = Float64Array.from({ length: i + 1 }, (_, j) => {
          let s = 0;
          for (let d = 0; d < D; d++) s += qkv[q + d] * qkv[at(j, 1) + d];
          return s * scale;
        });
        const top = scores.reduce((a, s) => Math.max(a, s));
        const sum = scores.reduce((a, s) => a + Math.exp(s - top), 0);
        const lse = top + Math.log(sum);
        logsumexp[(b * heads + h) * T + i] = lse;
        const p = scores.map((s) => Math.exp(s - lse));
        const f = p.map((_, j) => dropoutFactor(dropout, (dropout?.firstSlot ?? 0) + b, (h * T + i) * T + j));
        for (let j = 0; j <= i; j++) for (let d = 0; d < D; d++) out[o + d] += f[j] * p[j] * qkv[at(j, 2) + d];
        if (outGradient === undefined) continue;

        const dp = p.map((_, j) => {
          let s = 0;
          for (let d = 0; d < D; d++) s += outGradient[o + d] * qkv[at(j, 2) + d];
          return f[j] * s;
        });
        // the gradient of softmax, from its definition
        const inner = p.reduce((a, pj, j) => a + pj * dp[j], 0);
        for (let j = 0; j <= i; j++) {
          const ds = p[j] * (dp[j] - inner) * scale;
          for (let d = 0; d < D; d++) {
            qkvGradient[q + d] += ds * qkv[at(j, 1) + d];
            qkvGradient[at(j, 1) + d] += ds * qkv[q + d];
            qkvGradient[at(j, 2) + d] += f[j] * p[j] * outGradient[o + d];
          }
        }
      }
    }
  }
  return { out, logsumexp, qkvGradient };
}
