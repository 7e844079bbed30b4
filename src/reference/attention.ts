import { exp2Less, log2, reciprocal, rounded, settle } from './arithmetic.js';

/**
 * Causal attention as `--precision portable` computes it, in every bit. Queries, keys, values, outputs and their gradients
 * are `rounded` (12 bits), so products of two of them are exact, and a sum of such products is one chain of additions.
 *
 * Exponentials are to base 2. Forward, keys come in blocks of 16 under a running maximum m. It is a whole number, so scaling
 * what was summed before to a greater maximum changes no digit.
 */
const f32 = Math.fround;

/** The keys that share a maximum. */
const BLOCK = 16;

export interface AttentionShape {
  /** B: sequences. */
  readonly batch: number;
  /** T: tokens of a sequence. */
  readonly context: number;
  readonly heads: number;
  /** D: values of a head; C = heads * D. */
  readonly headSize: number;
}

/** 1 / sqrt(D), and log2(e) / sqrt(D), as the kernels get them. */
export function scalesOf(headSize: number): { readonly scale: number; readonly scale2: number } {
  return { scale: f32(1 / Math.sqrt(headSize)), scale2: f32(Math.LOG2E / Math.sqrt(headSize)) };
}

/** A chain: sum of a(n) * b(n), n rising from `from` to `to` (exclusive), added to `start`. */
export function chain(from: number, to: number, term: (n: number) => number, start = 0): number {
  let sum = start;
  for (let n = from; n < to; n++) sum = f32(sum + f32(term(n)));
  return sum;
}

/** The smallest whole number that is not below x. */
function wholeNotBelow(x: number): number {
  return -Math.floor(-x);
}

/** 2^exponent for a whole exponent up to 0; 0 below 2^-126. */
function power(exponent: number): number {
  return exponent < -126 ? 0 : 2 ** exponent;
}

/** Where things lie: `qkv` [B * T, 3C] columns q | k | v; `out` [B * T, C]; `row` [B, H, T]; `pair` [B, H, T, T]. */
function places({ context: T, heads: H, headSize: D }: AttentionShape, b: number, h: number) {
  return {
    qkv: (part: 0 | 1 | 2, i: number) => ((b * T + i) * 3 + part) * H * D + h * D,
    out: (i: number) => ((b * T + i) * H + h) * D,
    row: (i: number) => (b * H + h) * T + i,
    pair: (i: number, j: number) => ((b * H + h) * T + i) * T + j,
  };
}

/** All tokens of a sequence. */
function everyToken({ context }: AttentionShape): readonly number[] {
  return Array.from({ length: context }, (_, i) => i);
}

function forEachHead({ batch, heads }: AttentionShape, run: (b: number, h: number) => void): void {
  for (let b = 0; b < batch; b++) for (let h = 0; h < heads; h++) run(b, h);
}

/** A probability as products read it: with the dropout's factor if there is a dropout. */
function operand(p: number, factor: number | undefined): number {
  return rounded(factor === undefined ? p : settle(p * f32(factor)));
}

/**
 * qkv [B * T, 3C], `rounded`; `factors` of the dropout [B, H, T (query), T (key)], none without dropout -> out [B * T, C],
 * `rounded`; logsumexp [B, H, T], to base 2. Only what belongs to `tokens` is computed; the rest is zero.
 */
export function attention(
  shape: AttentionShape,
  qkv: Float32Array,
  factors?: ArrayLike<number>,
  tokens = everyToken(shape),
): { readonly out: Float32Array; readonly logsumexp: Float32Array } {
  const { batch: B, context: T, heads: H, headSize: D } = shape;
  const { scale2 } = scalesOf(D);
  const out = new Float32Array(B * T * H * D);
  const logsumexp = new Float32Array(B * H * T);
  forEachHead(shape, (b, h) => {
    const at = places(shape, b, h);
    for (const i of tokens) {
      const t = Array.from({ length: i + 1 }, (_, j) => score(qkv, at.qkv(0, i), qkv, at.qkv(1, j), D, scale2));
      let m = Number.NEGATIVE_INFINITY;
      let l = 0;
      const o = new Float32Array(D);
      for (let first = 0; first <= i; first += BLOCK) {
        const end = Math.min(first + BLOCK, i + 1);
        const top = wholeNotBelow(Math.max(m, ...t.slice(first, end)));
        const shrink = power(f32(m - top));
        m = top;
        const p = Array.from({ length: BLOCK }, (_, n) => (first + n < end ? exp2Less(t[first + n], m) : 0));
        l = f32(f32(l * shrink) + sum16(p));
        const weight = (j: number) => operand(p[j - first], factors?.[at.pair(i, j)]);
        for (let d = 0; d < D; d++)
          o[d] = chain(first, end, (j) => weight(j) * qkv[at.qkv(2, j) + d], f32(o[d] * shrink));
      }
      const inverse = reciprocal(l);
      for (let d = 0; d < D; d++) out[at.out(i) + d] = rounded(settle(o[d] * inverse));
      logsumexp[at.row(i)] = settle(m + log2(l));
    }
  });
  return { out, logsumexp };
}

/**
 * The gradient of `attention`: `outGradient` [B * T, C], `rounded`, with the results and factors of `attention` ->
 * qkvGradient [B * T, 3C], `rounded`; delta [B, H, T], each row's sum of outGradient * out. Of qkvGradient only the rows
 * of `tokens` are computed; the rest is zero. Where `delta` is given, `out` is not read.
 */
export function attentionGradient(
  shape: AttentionShape,
  v: {
    readonly qkv: Float32Array;
    readonly out: Float32Array;
    readonly logsumexp: Float32Array;
    readonly outGradient: Float32Array;
    readonly delta?: Float32Array;
  },
  factors?: ArrayLike<number>,
  tokens = everyToken(shape),
): { readonly qkvGradient: Float32Array; readonly delta: Float32Array } {
  const { batch: B, context: T, heads: H, headSize: D } = shape;
  const { qkv, out, logsumexp, outGradient: dO } = v;
  const { scale, scale2 } = scalesOf(D);
  const qkvGradient = new Float32Array(qkv.length);
  const delta = new Float32Array(B * H * T);
  const isWanted = new Set(tokens);
  forEachHead(shape, (b, h) => {
    const at = places(shape, b, h);
    const weights = new Float32Array(T * T); // [query, key]: what multiplies the value, and
    const scoreGradients = new Float32Array(T * T); // what multiplies the key or the query
    for (let i = 0; i < T; i++) {
      const o = at.out(i);
      delta[at.row(i)] = v.delta?.[at.row(i)] ?? settle(chain(0, D, (d) => dO[o + d] * out[o + d]));
      for (let j = 0; j <= i; j++) {
        if (!isWanted.has(i) && !isWanted.has(j)) continue;
        const factor = factors?.[at.pair(i, j)];
        const t = score(qkv, at.qkv(0, i), qkv, at.qkv(1, j), D, scale2);
        const p = exp2Less(f32(t - logsumexp[at.row(i)]), 0);
        const dP = chain(0, D, (d) => dO[o + d] * qkv[at.qkv(2, j) + d]);
        const e = factor === undefined ? dP : settle(dP * f32(factor));
        weights[i * T + j] = operand(p, factor);
        scoreGradients[i * T + j] = rounded(settle(p * f32(e - delta[at.row(i)])));
      }
    }
    for (const n of tokens) {
      for (let d = 0; d < D; d++) {
        const dQ = chain(0, n + 1, (j) => scoreGradients[n * T + j] * qkv[at.qkv(1, j) + d]);
        const dK = chain(n, T, (i) => scoreGradients[i * T + n] * qkv[at.qkv(0, i) + d]);
        const dV = chain(n, T, (i) => weights[i * T + n] * dO[at.out(i) + d]);
        qkvGradient[at.qkv(0, n) + d] = rounded(settle(scale * dQ));
        qkvGradient[at.qkv(1, n) + d] = rounded(settle(scale * dK));
        qkvGradient[at.qkv(2, n) + d] = rounded(dV);
      }
    }
  });
  return { qkvGradient, delta };
}

/** The score of a query and a key, times log2(e). */
export function score(
  query: Float32Array,
  q: number,
  keys: Float32Array,
  k: number,
  D: number,
  scale2: number,
): number {
  return settle(chain(0, D, (d) => query[q + d] * keys[k + d]) * scale2);
}

/** The sum of 16 values, by pairs, then by pairs of pairs and so on. */
function sum16(v: readonly number[]): number {
  let sums = v;
  while (sums.length > 1) sums = sums.flatMap((x, n) => (n % 2 === 0 ? [f32(x + sums[n + 1])] : []));
  return sums[0];
}
