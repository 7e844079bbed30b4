import { exp2, reciprocal, rounded, settle } from './arithmetic.js';

/** Matrix products and their epilogues in portable arithmetic (shaders/matmul_operands.wgsl, epilogue.wgsl). */
const f32 = Math.fround;

/** Terms of a segment of K. */
const SEGMENT = 256;

/** Operands of a product, row-major. NN: A [M, K], B [K, N]; NT: A [M, K], B [N, K]; TN: A [K, M], B [K, N]. */
export interface Product {
  readonly layout: 'NN' | 'NT' | 'TN';
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly a: ArrayLike<number>;
  readonly b: ArrayLike<number>;
  /** [M, N]: what the product adds to; absent where it adds to nothing. */
  readonly begin?: ArrayLike<number>;
}

/** C [M, N]. Operands are rounded to 12 bits; K is summed in segments of 256, which are added in order. */
export function product({ layout, m, n, k, a, b, begin }: Product): Float32Array {
  // By k, so that the innermost loop walks along both.
  const left = Float32Array.from({ length: m * k }, (_, i) => {
    const [row, at] = [Math.floor(i / k), i % k];
    return rounded(a[layout === 'TN' ? at * m + row : i]);
  });
  const right = Float32Array.from({ length: n * k }, (_, i) => {
    const [column, at] = [Math.floor(i / k), i % k];
    return rounded(b[layout === 'NT' ? i : at * n + column]);
  });
  const c = new Float32Array(m * n);
  for (let row = 0; row < m; row++)
    for (let column = 0; column < n; column++) {
      let total = begin ? begin[row * n + column] : 0;
      for (let first = 0; first < k; first += SEGMENT) {
        let sum = 0;
        for (let i = first; i < Math.min(k, first + SEGMENT); i++)
          sum = f32(sum + left[row * k + i] * right[column * k + i]);
        total = f32(total + sum);
      }
      c[row * n + column] = total;
    }
  return c;
}

const GELU_SCALE = f32(2.30220819);
const GELU_CUBIC = f32(0.102943242);
const GELU_SLOPE = f32(1.59576917);
const GELU_SLOPE_SQUARE = f32(0.214064449);

function geluSigmoid(x: number, square: number): number {
  const factor = f32(GELU_SCALE + settle(GELU_CUBIC * square));
  const a = Math.min(Math.max(settle(x * factor), -100), 100);
  return reciprocal(f32(1 + exp2(-a)));
}

/** GELU by tanh (shaders/gelu_portable.wgsl). */
export function gelu(x: number): number {
  return settle(x * geluSigmoid(x, settle(x * x)));
}

export function geluDerivative(x: number): number {
  const square = settle(x * x);
  const s = geluSigmoid(x, square);
  const slope = f32(GELU_SLOPE + settle(GELU_SLOPE_SQUARE * square));
  const curve = settle(s * f32(1 - s));
  return f32(s + settle(settle(x * curve) * slope));
}

/** What follows a product, all [M, N] but bias [N]. */
export interface Epilogue {
  readonly bias?: ArrayLike<number>;
  /** GELU's argument: the result is multiplied by GELU's derivative there. */
  readonly geluGradient?: ArrayLike<number>;
  /** Dropout's factors. */
  readonly factors?: ArrayLike<number>;
  readonly residual?: ArrayLike<number>;
  /** Whether the result is stored rounded to 12 bits. */
  readonly rounds?: boolean;
}

/** residual + (acc + bias) * geluDerivative(geluGradient) * factors, as it is stored. `acc` has `n` columns. */
export function stored(acc: Float32Array, n: number, e: Epilogue): Float32Array {
  return acc.map((value, i) => {
    let v = e.bias ? f32(value + e.bias[i % n]) : value;
    if (e.geluGradient) v = settle(v * geluDerivative(e.geluGradient[i]));
    if (e.factors) v = settle(v * e.factors[i]);
    if (e.residual) v = f32(e.residual[i] + v);
    return e.rounds ? rounded(v) : settle(v);
  });
}

/** hidden = acc + bias, and GELU of it, rounded. */
export function storedGelu(acc: Float32Array, n: number, bias?: ArrayLike<number>) {
  const hidden = stored(acc, n, { bias });
  return { hidden, gelu: hidden.map((v) => rounded(gelu(v))) };
}
