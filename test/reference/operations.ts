import { type Key, threefry } from '../../src/util/random.js';

/**
 * Every operation of the model and its gradient in float64, as in a textbook: the reference of the kernels. Arrays are flat and
 * row-major; M is the number of rows of all sequences. Inputs may be of any precision, results are float64. A backward
 * function takes the inputs of the forward one and `dy`, the loss's gradient by the forward result.
 */
export type Values = ArrayLike<number>;

export const LAYER_NORM_EPSILON = 1e-5;
/** A target that has no loss. */
export const IGNORED_TARGET = 0xffffffff;

const GELU_FACTOR = Math.sqrt(2 / Math.PI);
const GELU_CUBIC = 0.044715;

/** a + b, element by element. */
export function add(a: Values, b: Values): Float64Array {
  return Float64Array.from(a, (value, i) => value + b[i]);
}

/** a * b, element by element; without `b`, a copy of `a`. With factors as `b` it is dropout, forward and backward. */
export function multiply(a: Values, b: Values | undefined): Float64Array {
  return Float64Array.from(a, (value, i) => (b === undefined ? value : value * b[i]));
}

/**
 * Factors of the dropout at one site, [B, places]: 0 with chance `p`, else 1 / (1 - p). The factor of `place` inside
 * sequence b depends on (key, firstSlot + b, place) alone. The same bits decide as in shaders/random.wgsl.
 */
export function dropoutFactors(key: Key, p: number, firstSlot: number, batch: number, places: number): Float64Array {
  const threshold = Math.round(p * 2 ** 32);
  const factors = new Float64Array(batch * places);
  for (let b = 0; b < batch; b++) {
    for (let place = 0; place < places; place++) {
      const word = threefry(key, firstSlot + b, place >>> 1)[place & 1];
      factors[b * places + place] = word < threshold ? 0 : 1 / (1 - p);
    }
  }
  return factors;
}

/** tokens [M]; wte [V, C]; wpe [at least T, C] -> x [M, C] = wte[token] + wpe[row mod T]. */
export function embedding(tokens: Values, wte: Values, wpe: Values, T: number, C: number): Float64Array {
  const x = new Float64Array(tokens.length * C);
  for (let row = 0; row < tokens.length; row++)
    for (let c = 0; c < C; c++) x[row * C + c] = wte[tokens[row] * C + c] + wpe[(row % T) * C + c];
  return x;
}

/** dx [M, C] -> dWte [V, C], dWpe [positions, C], where `positions` is the length of the table (at least T). */
export function embeddingBackward(
  tokens: Values,
  dx: Values,
  shape: { readonly T: number; readonly C: number; readonly V: number; readonly positions?: number },
): { dWte: Float64Array; dWpe: Float64Array } {
  const { T, C, V, positions = T } = shape;
  const dWte = new Float64Array(V * C);
  const dWpe = new Float64Array(positions * C);
  for (let row = 0; row < tokens.length; row++) {
    for (let c = 0; c < C; c++) {
      dWte[tokens[row] * C + c] += dx[row * C + c];
      dWpe[(row % T) * C + c] += dx[row * C + c];
    }
  }
  return { dWte, dWpe };
}

/**
 * x [M, C]; gain, bias [C] -> y [M, C] = (x - mean) * inverse * gain + bias, with each row's mean and
 * inverse = 1 / sqrt(variance + 1e-5), both [M].
 */
export function layerNorm(
  x: Values,
  gain: Values,
  bias: Values,
  C: number,
): { y: Float64Array; mean: Float64Array; inverse: Float64Array } {
  const M = x.length / C;
  const y = new Float64Array(x.length);
  const mean = new Float64Array(M);
  const inverse = new Float64Array(M);
  for (let row = 0; row < M; row++) {
    let sum = 0;
    for (let c = 0; c < C; c++) sum += x[row * C + c];
    mean[row] = sum / C;
    let squares = 0;
    for (let c = 0; c < C; c++) squares += (x[row * C + c] - mean[row]) ** 2;
    inverse[row] = 1 / Math.sqrt(squares / C + LAYER_NORM_EPSILON);
    for (let c = 0; c < C; c++) y[row * C + c] = (x[row * C + c] - mean[row]) * inverse[row] * gain[c] + bias[c];
  }
  return { y, mean, inverse };
}

/** x, dy [M, C]; gain [C] -> dx [M, C]; dGain, dBias [C]. */
export function layerNormBackward(
  x: Values,
  gain: Values,
  dy: Values,
  C: number,
): { dx: Float64Array; dGain: Float64Array; dBias: Float64Array } {
  const dx = new Float64Array(x.length);
  const dGain = new Float64Array(C);
  const dBias = new Float64Array(C);
  const { mean, inverse } = layerNorm(x, gain, dBias, C);
  for (let row = 0; row < mean.length; row++) {
    const at = row * C;
    const normal = Float64Array.from({ length: C }, (_, c) => (x[at + c] - mean[row]) * inverse[row]);
    const dNormal = Float64Array.from({ length: C }, (_, c) => dy[at + c] * gain[c]);
    // Normalization removes the components of dNormal along the constant and along the row itself.
    const along = dNormal.reduce((sum, d) => sum + d, 0) / C;
    const across = dNormal.reduce((sum, d, c) => sum + d * normal[c], 0) / C;
    for (let c = 0; c < C; c++) {
      dx[at + c] = inverse[row] * (dNormal[c] - along - normal[c] * across);
      dGain[c] += dy[at + c] * normal[c];
      dBias[c] += dy[at + c];
    }
  }
  return { dx, dGain, dBias };
}

/** x [M, K]; w [K, N]; bias [N] or none -> y [M, N] = x w + bias. */
export function linear(x: Values, w: Values, bias: Values | undefined, K: number, N: number): Float64Array {
  const M = x.length / K;
  const y = new Float64Array(M * N);
  for (let m = 0; m < M; m++) {
    for (let n = 0; n < N; n++) y[m * N + n] = bias === undefined ? 0 : bias[n];
    for (let k = 0; k < K; k++) {
      const value = x[m * K + k];
      for (let n = 0; n < N; n++) y[m * N + n] += value * w[k * N + n];
    }
  }
  return y;
}

/** x [M, K]; w [K, N]; dy [M, N] -> dx [M, K] = dy w^T; dw [K, N] = x^T dy; dBias [N], the column sums of dy. */
export function linearBackward(
  x: Values,
  w: Values,
  dy: Values,
  K: number,
  N: number,
): { dx: Float64Array; dw: Float64Array; dBias: Float64Array } {
  const M = x.length / K;
  const dx = new Float64Array(M * K);
  const dw = new Float64Array(K * N);
  const dBias = new Float64Array(N);
  for (let m = 0; m < M; m++) {
    for (let n = 0; n < N; n++) dBias[n] += dy[m * N + n];
    for (let k = 0; k < K; k++) {
      const value = x[m * K + k];
      let sum = 0;
      for (let n = 0; n < N; n++) {
        sum += dy[m * N + n] * w[k * N + n];
        dw[k * N + n] += value * dy[m * N + n];
      }
      dx[m * K + k] = sum;
    }
  }
  return { dx, dw, dBias };
}

/** [rows, columns] -> [columns, rows]. */
export function transpose(a: Values, rows: number, columns: number): Float64Array {
  const result = new Float64Array(rows * columns);
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) result[c * rows + r] = a[r * columns + c];
  return result;
}

/** x [M, C]; w [V, C] (lm_head or wte) -> logits [M, V] = x w^T. */
export function head(x: Values, w: Values, C: number, V: number): Float64Array {
  return linear(x, transpose(w, V, C), undefined, C, V);
}

/** x [M, C]; w [V, C]; dLogits [M, V] -> dx [M, C] = dLogits w; dw [V, C] = dLogits^T x. */
export function headBackward(
  x: Values,
  w: Values,
  dLogits: Values,
  C: number,
  V: number,
): { dx: Float64Array; dw: Float64Array } {
  const { dx, dw } = linearBackward(x, transpose(w, V, C), dLogits, C, V);
  return { dx, dw: transpose(dw, C, V) };
}

/** GPT-2's GELU ("gelu_new"): x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) (arXiv 1606.08415, section 2). */
export function gelu(x: Values): Float64Array {
  return Float64Array.from(x, (v) => 0.5 * v * (1 + Math.tanh(GELU_FACTOR * (v + GELU_CUBIC * v ** 3))));
}

/** x, dy of the same shape -> dx. */
export function geluBackward(x: Values, dy: Values): Float64Array {
  return Float64Array.from(x, (v, i) => {
    const tanh = Math.tanh(GELU_FACTOR * (v + GELU_CUBIC * v ** 3));
    const slope = GELU_FACTOR * (1 + 3 * GELU_CUBIC * v ** 2) * (1 - tanh ** 2);
    return dy[i] * (0.5 * (1 + tanh) + 0.5 * v * slope);
  });
}

export interface HeadsShape {
  /** B: sequences. */
  readonly batch: number;
  /** T: tokens a sequence. */
  readonly context: number;
  /** H. */
  readonly heads: number;
  /** D: channels a head; C = H * D. */
  readonly headSize: number;
}

/** Where head h of row (b, i) begins in qkv; `part` 0 query, 1 key, 2 value. */
function qkvIndex({ context, heads, headSize }: HeadsShape, b: number, i: number, part: number, h: number): number {
  return ((b * context + i) * 3 + part) * heads * headSize + h * headSize;
}

function dot(a: Values, aStart: number, b: Values, bStart: number, length: number): number {
  let sum = 0;
  for (let d = 0; d < length; d++) sum += a[aStart + d] * b[bStart + d];
  return sum;
}

/**
 * Causal multi-head attention. qkv [B, T, 3, H, D]; factors [B, H, T (query), T (key)] or none ->
 * y [B, T, H, D] = (softmax(q k^T / sqrt(D)) * factors) v; probabilities [B, H, T, T] before the dropout, zero for keys
 * after the query; logsumexp of the scores [B, H, T].
 */
export function causalAttention(
  shape: HeadsShape,
  qkv: Values,
  factors?: Values,
): { y: Float64Array; probabilities: Float64Array; logsumexp: Float64Array } {
  const { batch: B, context: T, heads: H, headSize: D } = shape;
  const y = new Float64Array(B * T * H * D);
  const probabilities = new Float64Array(B * H * T * T);
  const logsumexp = new Float64Array(B * H * T);
  for (let b = 0; b < B; b++) {
    for (let h = 0; h < H; h++) {
      for (let i = 0; i < T; i++) {
        const query = qkvIndex(shape, b, i, 0, h);
        const row = ((b * H + h) * T + i) * T;
        const scores = Array.from(
          { length: i + 1 },
          (_, j) => dot(qkv, query, qkv, qkvIndex(shape, b, j, 1, h), D) / Math.sqrt(D),
        );
        const highest = Math.max(...scores);
        const sum = scores.reduce((total, s) => total + Math.exp(s - highest), 0);
        logsumexp[(b * H + h) * T + i] = highest + Math.log(sum);
        for (let j = 0; j <= i; j++) {
          probabilities[row + j] = Math.exp(scores[j] - highest) / sum;
          const weight = probabilities[row + j] * (factors?.[row + j] ?? 1);
          const value = qkvIndex(shape, b, j, 2, h);
          for (let d = 0; d < D; d++) y[((b * T + i) * H + h) * D + d] += weight * qkv[value + d];
        }
      }
    }
  }
  return { y, probabilities, logsumexp };
}

/** qkv [B, T, 3, H, D]; dy [B, T, H, D]; factors [B, H, T, T] or none -> dQkv [B, T, 3, H, D]. */
export function causalAttentionBackward(shape: HeadsShape, qkv: Values, dy: Values, factors?: Values): Float64Array {
  const { batch: B, context: T, heads: H, headSize: D } = shape;
  const { probabilities } = causalAttention(shape, qkv, factors);
  const dQkv = new Float64Array(qkv.length);
  for (let b = 0; b < B; b++) {
    for (let h = 0; h < H; h++) {
      for (let i = 0; i < T; i++) {
        const query = qkvIndex(shape, b, i, 0, h);
        const out = ((b * T + i) * H + h) * D;
        const row = ((b * H + h) * T + i) * T;
        const dProbability = new Float64Array(i + 1);
        for (let j = 0; j <= i; j++) {
          const value = qkvIndex(shape, b, j, 2, h);
          const factor = factors?.[row + j] ?? 1;
          dProbability[j] = factor * dot(dy, out, qkv, value, D);
          for (let d = 0; d < D; d++) dQkv[value + d] += probabilities[row + j] * factor * dy[out + d];
        }
        const mean = dot(dProbability, 0, probabilities, row, i + 1);
        for (let j = 0; j <= i; j++) {
          const key = qkvIndex(shape, b, j, 1, h);
          const dDot = (probabilities[row + j] * (dProbability[j] - mean)) / Math.sqrt(D);
          for (let d = 0; d < D; d++) {
            dQkv[query + d] += dDot * qkv[key + d];
            dQkv[key + d] += dDot * qkv[query + d];
          }
        }
      }
    }
  }
  return dQkv;
}

/** The softmax of one row of logits, and the logarithm of its denominator. */
function softmaxRow(logits: Values, row: number, V: number): { probabilities: Float64Array; logsumexp: number } {
  let highest = Number.NEGATIVE_INFINITY;
  for (let v = 0; v < V; v++) highest = Math.max(highest, logits[row * V + v]);
  const probabilities = Float64Array.from({ length: V }, (_, v) => Math.exp(logits[row * V + v] - highest));
  const sum = probabilities.reduce((total, e) => total + e, 0);
  return { probabilities: probabilities.map((e) => e / sum), logsumexp: highest + Math.log(sum) };
}

/** logits [M, V]; targets [M] -> losses [M] = logsumexp(logits) - logits[target], 0 where the target is ignored. */
export function crossEntropy(logits: Values, targets: Values, V: number): Float64Array {
  return Float64Array.from(targets, (target, row) => {
    if (target === IGNORED_TARGET) return 0;
    return softmaxRow(logits, row, V).logsumexp - logits[row * V + target];
  });
}

/** logits [M, V]; targets [M] -> dLogits [M, V] of scale * (sum of the losses); rows of ignored targets are 0. */
export function crossEntropyBackward(logits: Values, targets: Values, V: number, scale: number): Float64Array {
  const dLogits = new Float64Array(logits.length);
  for (let row = 0; row < targets.length; row++) {
    if (targets[row] === IGNORED_TARGET) continue;
    const { probabilities } = softmaxRow(logits, row, V);
    for (let v = 0; v < V; v++) dLogits[row * V + v] = scale * (probabilities[v] - (v === targets[row] ? 1 : 0));
  }
  return dLogits;
}
