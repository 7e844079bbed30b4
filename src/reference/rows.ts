import { exp2Less, inverseSqrt, log2, reciprocal, rounded, settle } from './arithmetic.js';

/*
 * The operations on rows in portable arithmetic (shaders/layernorm.wgsl, columns.wgsl, cross_entropy.wgsl, embedding.wgsl): every
 * rounding and the order of every sum. Matrices are flat and row-major, M is the number of rows. Arrays hold float32 values.
 * What a kernel rounds to fixed point is returned before that, for one micro-batch.
 */
export type Floats = ArrayLike<number>;

const f32 = Math.fround;
const EPSILON = f32(1e-5);
const LOG2E = f32(Math.LOG2E);
const LN2 = f32(Math.LN2);
/** Columns of the eight parts that a row's sum has, four each. */
const STEP = 32;
/** Rows of a chunk in sums over rows. */
const CHUNK_ROWS = 16;
/** A target that has no loss. */
const IGNORED_TARGET = 0xffffffff;

/**
 * The sum of term(0) to term(columns - 1). Part l of 8 has the columns 32 i + 4 l to 32 i + 4 l + 3 and adds each of its four
 * components on its own, i rising; then (0 + 1) + (2 + 3). The parts are added in order.
 */
export function rowSum(columns: number, term: (c: number) => number): number {
  let total = 0;
  for (let part = 0; part < STEP; part += 4) {
    const sums = [0, 0, 0, 0];
    for (let first = part; first < columns; first += STEP)
      for (let k = 0; k < 4 && first + k < columns; k++) sums[k] = f32(sums[k] + term(first + k));
    total = f32(total + f32(f32(sums[0] + sums[1]) + f32(sums[2] + sums[3])));
  }
  return total;
}

/** dy [M, N] -> [N]: the sums of its columns. Chunks of 16 rows are added each in order, then the chunks in order. */
export function columnSums(dy: Floats, N: number): Float32Array {
  const sums = new Float32Array(N);
  const M = dy.length / N;
  for (let n = 0; n < N; n++) {
    for (let first = 0; first < M; first += CHUNK_ROWS) {
      let chunk = 0;
      for (let row = first; row < Math.min(first + CHUNK_ROWS, M); row++) chunk = f32(chunk + dy[row * N + n]);
      sums[n] = f32(sums[n] + chunk);
    }
  }
  return sums;
}

/** What LayerNorm keeps of its forward pass, both [M]. */
export interface Statistics {
  readonly mean: Float32Array;
  /** 1 / sqrt(variance + 1e-5) */
  readonly rstd: Float32Array;
}

/** x [M, C]; gain, bias [C] -> y [M, C] = (x - mean) * rstd * gain + bias, rounded to 12 bits. */
export function layerNorm(x: Floats, gain: Floats, bias: Floats, C: number): Statistics & { y: Float32Array } {
  const M = x.length / C;
  const [y, mean, rstd] = [new Float32Array(M * C), new Float32Array(M), new Float32Array(M)];
  const inverseC = f32(1 / C);
  for (let row = 0; row < M; row++) {
    const at = row * C;
    mean[row] = settle(rowSum(C, (c) => x[at + c]) * inverseC);
    const distance = (c: number) => f32(x[at + c] - mean[row]);
    const variance = settle(rowSum(C, (c) => settle(distance(c) * distance(c))) * inverseC);
    rstd[row] = inverseSqrt(f32(variance + EPSILON));
    for (let c = 0; c < C; c++) y[at + c] = rounded(settle(settle(distance(c) * rstd[row]) * gain[c]) + bias[c]);
  }
  return { y, mean, rstd };
}

export interface LayerNormGradient {
  /** [M, C] */
  readonly x: Floats;
  /** Of the forward pass. */
  readonly statistics: Statistics;
  /** [C] */
  readonly gain: Floats;
  /** [M, C] */
  readonly dy: Floats;
  readonly C: number;
  /** [M, C]: the gradient of the residual stream, which is added. Default: nothing is. */
  readonly residual?: Floats;
  /** [M, C]: float32 factors of the dropout that the gradient passes next. Default: none. */
  readonly factors?: Floats;
}

/**
 * The gradient through LayerNorm: dx [M, C]; dropped [M, C], dx times the factors, rounded to 12 bits; the gradients of gain and
 * bias, [C] each.
 */
export function layerNormBackward({ x, statistics, gain, dy, C, residual, factors }: LayerNormGradient): {
  dx: Float32Array;
  dropped: Float32Array;
  dGain: Float32Array;
  dBias: Float32Array;
} {
  const M = x.length / C;
  const [dx, dropped, along] = [new Float32Array(M * C), new Float32Array(M * C), new Float32Array(M * C)];
  const inverseC = f32(1 / C);
  for (let row = 0; row < M; row++) {
    const at = row * C;
    const [mean, rstd] = [statistics.mean[row], statistics.rstd[row]];
    const distance = (c: number) => f32(x[at + c] - mean);
    const g = (c: number) => settle(dy[at + c] * gain[c]);
    const mean1 = settle(rowSum(C, g) * inverseC);
    const mean2 = settle(rowSum(C, (c) => settle(settle(g(c) * distance(c)) * rstd)) * inverseC);
    for (let c = 0; c < C; c++) {
      const xhat = settle(distance(c) * rstd);
      const v = settle(rstd * f32(f32(g(c) - mean1) - settle(xhat * mean2)));
      dx[at + c] = residual === undefined ? v : settle(v + residual[at + c]);
      dropped[at + c] = rounded(factors === undefined ? dx[at + c] : settle(dx[at + c] * factors[at + c]));
      along[at + c] = settle(settle(dy[at + c] * distance(c)) * rstd);
    }
  }
  return { dx, dropped, dGain: columnSums(along, C), dBias: columnSums(dy, C) };
}

/**
 * logits [M, stride], whose columns from V on are padding; targets [M]; scale, the factor of every loss -> losses [M] and
 * gradient [M, stride], rounded to 12 bits, whose padding is that of the logits. Where a logit is not finite, the loss is the one
 * of the largest magnitude, and the gradient means nothing.
 */
export function crossEntropy(
  logits: Floats,
  stride: number,
  V: number,
  targets: Floats,
  scale: number,
): { losses: Float32Array; gradient: Float32Array } {
  const losses = new Float32Array(targets.length);
  const gradient = Float32Array.from(logits);
  for (let row = 0; row < targets.length; row++) {
    const at = row * stride;
    const goal = targets[row];
    const isIgnored = goal === IGNORED_TARGET;
    const t = Float32Array.from({ length: V }, (_, v) => settle(logits[at + v] * LOG2E));
    const m = Math.ceil(t.reduce((a, b) => Math.max(a, b)));
    const weights = t.map((value) => exp2Less(value, m));
    const sum = rowSum(V, (v) => weights[v]);
    const factor = isIgnored ? 0 : scale;
    const inverse = settle(factor * reciprocal(sum));
    for (let v = 0; v < V; v++) {
      const p = settle(weights[v] * inverse);
      gradient[at + v] = rounded(v === goal ? f32(p - factor) : p);
    }
    if (!isIgnored) losses[row] = settle(f32(log2(sum) + f32(m - t[goal])) * LN2);
    const largest = Float32Array.from({ length: V }, (_, v) => Math.abs(logits[at + v])).reduce((a, b) =>
      Math.max(a, b),
    );
    if (!isIgnored && !Number.isFinite(largest)) losses[row] = largest;
  }
  return { losses, gradient };
}

/**
 * tokens [M]; wte [V, C]; wpe [at least T, C]; factors [M, C], float32 dropout factors, or none -> x [M, C], the sum of both
 * tables' rows times the factors.
 */
export function embedding(
  tokens: Floats,
  wte: Floats,
  wpe: Floats,
  { T, C }: { readonly T: number; readonly C: number },
  factors?: Floats,
): Float32Array {
  const x = new Float32Array(tokens.length * C);
  for (let row = 0; row < tokens.length; row++) {
    for (let c = 0; c < C; c++) {
      const value = settle(wte[tokens[row] * C + c] + wpe[(row % T) * C + c]);
      x[row * C + c] = factors === undefined ? value : settle(value * factors[row * C + c]);
    }
  }
  return x;
}

/** dx [M, C], which has passed the dropout -> dWte [V, C] and dWpe [positions, C]: rows are added in order. */
export function embeddingBackward(
  tokens: Floats,
  dx: Floats,
  shape: { readonly T: number; readonly C: number; readonly V: number; readonly positions?: number },
): { dWte: Float32Array; dWpe: Float32Array } {
  const { T, C, V, positions = T } = shape;
  const [dWte, dWpe] = [new Float32Array(V * C), new Float32Array(positions * C)];
  for (let row = 0; row < tokens.length; row++) {
    for (let c = 0; c < C; c++) {
      dWte[tokens[row] * C + c] += dx[row * C + c];
      dWpe[(row % T) * C + c] += dx[row * C + c];
    }
  }
  return { dWte, dWpe };
}
