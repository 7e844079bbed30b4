//! import epilogue
//! import chain
//! import loops
// The operands of a matrix product, row-major:
//
//   LAYOUT 0, NN: C[M, N] = A[M, K] B[K, N]
//   LAYOUT 1, NT: C[M, N] = A[M, K] B[N, K]^T
//   LAYOUT 2, TN: C[M, N] = A[K, M]^T B[K, N]
//
// A stack is several products whose rows lie one below another. In NN and NT it is simply one product of more rows:
// M = extent.rows counts the rows of all, and extent.stack is 1. In TN it is extent.stack products of K rows of A and B
// each, computed one after the other, and each is rounded to fixed point on its own.
//
// a and a4 are the same view, and so are b and b4. Where leading dimensions are multiples of 4 (VECTOR), operands are read
// through the vec4 arrays: one load instead of four. Each may be float16 (`f16A`, `f16B`); sums are always float32.

const NN = 0u;
const NT = 1u;
const TN = 2u;

override LAYOUT: u32;
override K: u32;
override LDA: u32;
override LDB: u32;
override VECTOR: bool;

// Terms of a segment of K. With SEGMENTED each segment is summed from zero, and the sums of the segments are added in order
// to what the accumulators start from. So every kernel, split or not, has one order (--precision portable). Otherwise there
// is one segment, and its terms are added to that directly.
override SEGMENT = K;
override SEGMENTED = false;

alias OperandA = f32;  //! f16A: alias OperandA = f16;
alias OperandB = f32;  //! f16B: alias OperandB = f16;
@group(0) @binding(0) var<storage, read> a: array<OperandA>;
@group(0) @binding(1) var<storage, read> a4: array<vec4<OperandA>>;
@group(0) @binding(2) var<storage, read> b: array<OperandB>;
@group(0) @binding(3) var<storage, read> b4: array<vec4<OperandB>>;

fn operandA4(v: vec4f) -> vec4f { return v; }  //! roundA: fn operandA4(v: vec4f) -> vec4f { return rounded4(v); }
fn operandB4(v: vec4f) -> vec4f { return v; }  //! roundB: fn operandB4(v: vec4f) -> vec4f { return rounded4(v); }

// Four consecutive values; with VECTOR, `at` is a multiple of 4.
fn loadA(at: u32) -> vec4f {
  if (VECTOR) { return operandA4(vec4f(a4[at / 4u])); }
  return operandA4(vec4f(vec4(a[at], a[at + 1u], a[at + 2u], a[at + 3u])));
}

fn loadB(at: u32) -> vec4f {
  if (VECTOR) { return operandB4(vec4f(b4[at / 4u])); }
  return operandB4(vec4f(vec4(b[at], b[at + 1u], b[at + 2u], b[at + 3u])));
}

// A total plus the sum of a segment.
fn plusSegment4(total: vec4f, sum: vec4f) -> vec4f { return keep4(total + keep4(sum)); }

// `v`, with zero for components whose index, counted from `first`, is `end` or more.
fn below(v: vec4f, first: u32, end: u32) -> vec4f {
  return select(vec4f(), v, vec4u(first) + vec4u(0u, 1u, 2u, 3u) < vec4u(end));
}

// (tile row, tile column) of workgroup `id`; `tilesDown` times `tilesAcross` tiles cover C. Swizzle: C is cut into bands of
// `swizzleRows` tiles one below the other. Workgroups go down a band's first column of tiles, then its next one, then to the
// next band. So the rows of A that a band reads stay in a cache, and each column panel of B is read once a band.
fn tileOf(id: u32, tilesDown: u32, tilesAcross: u32) -> vec2u {
  let first = id / (extent.swizzleRows * tilesAcross) * extent.swizzleRows;
  let rest = id - first * tilesAcross;
  let height = min(extent.swizzleRows, tilesDown - first);
  return vec2u(first + rest % height, rest / height);
}
