//! import extent
//! import random
//! import rounding_exact  //! low: //! import rounding_low
//! import gelu  //! portable: //! import gelu_portable
//! import output_values  //! vec4: //! import output_vec4
// The epilogues of all kernels for matrix products: how accumulators are stored. A call takes four consecutive values of
// one row of C[M, N], M = extent.rows, from column `col` (a multiple of 4) on. Rows and columns beyond C are left out.
//
//   store4         c = residual + (acc + bias) * geluDerivative(gradient)      each part has a flag
//   storeGelu4     c = acc + bias, geluOutput = gelu(c)
//   storeDropout4  c = residual + (acc + bias) * dropout factor
//   fixed4         (low, high) += acc as integers (rounding_exact.wgsl, rounding_low.wgsl); returns status bits for
//                  `reportStatus`. Unless the extent accumulates, the first product of a stack overwrites the sums. Its two
//                  steps are integersOf and intoSums
//
// An entry point calls one of them, so that it needs at most 8 storage buffers. A flag that is off folds away, but its
// variable must still be bound, to any read-only view. Where N and LDC are multiples of 4 (`vec4`), four values are one
// access to memory, several times as fast on software adapters.

override LDC: u32;
override BIAS = false;
override GELU_GRADIENT = false;
override RESIDUAL = false;
// Whether the accumulators start from C, or from zero.
override ACCUMULATE = false;
override ROWS_PER_SEQUENCE = 1u;

@group(0) @binding(9) var<uniform> key: DropoutKey;
@group(0) @binding(12) var<storage, read_write> status: array<atomic<u32>>;

fn outside(row: u32, col: u32) -> bool {
  return row >= extent.rows || col >= N;
}

fn addBias4(col: u32, v: vec4f) -> vec4f {
  if (!BIAS) { return v; }
  return keep4(v + valuesOfBias(col));
}

fn addResidual4(at: u32, v: vec4f) -> vec4f {
  if (!RESIDUAL) { return v; }
  return keep4(valuesOfResidual(at) + v);
}

// What the accumulators start from. Values beyond the row are read, but never stored.
fn begin4(row: u32, col: u32) -> vec4f {
  if (!ACCUMULATE || outside(row, col)) { return vec4f(); }
  return valuesOfC(row * LDC + col);
}

fn store4(row: u32, col: u32, acc: vec4f) {
  if (outside(row, col)) { return; }
  let at = row * LDC + col;
  var v = addBias4(col, keep4(acc));
  if (GELU_GRADIENT) { v = settle4(v * geluDerivative4(valuesOfGradient(at))); }
  putC(at, col, addResidual4(at, v));
}

fn storeGelu4(row: u32, col: u32, acc: vec4f) {
  if (outside(row, col)) { return; }
  let at = row * LDC + col;
  let v = settle4(addBias4(col, keep4(acc)));
  putC(at, col, v);
  putGelu(at, col, gelu4(v));
}

fn storeDropout4(row: u32, col: u32, acc: vec4f) {
  if (outside(row, col)) { return; }
  let at = row * LDC + col;
  let slot = key.firstSlot + row / ROWS_PER_SEQUENCE;
  let place = (row % ROWS_PER_SEQUENCE) * N + col;
  var factor: vec4f;
  if (N % 2u == 0u) {
    factor = dropoutFactor4(key, slot, place);
  } else {
    factor = vec4f(
      dropoutFactor(key, slot, place),
      dropoutFactor(key, slot, place + 1u),
      dropoutFactor(key, slot, place + 2u),
      dropoutFactor(key, slot, place + 3u),
    );
  }
  putC(at, col, addResidual4(at, settle4(addBias4(col, keep4(acc)) * factor)));
}

// Four values as integers.
struct Integers {
  low: vec4u,
  high: vec4u,
  // The status bits of the values that are within C.
  statusBits: u32,
}

fn integersOf(row: u32, col: u32, acc: vec4f, s: u32) -> Integers {
  let bits = bitcast<vec4u>(vec4f(inUnits(acc.x), inUnits(acc.y), inUnits(acc.z), inUnits(acc.w)));
  let words = integersOf4(row * LDC + col, s, bits, N % 4u == 0u && LDC % 4u == 0u);
  var statusBits = fixedPointStatus(bits.x);
  if (col + 1u < N) { statusBits |= fixedPointStatus(bits.y); }
  if (col + 2u < N) { statusBits |= fixedPointStatus(bits.z); }
  if (col + 3u < N) { statusBits |= fixedPointStatus(bits.w); }
  return Integers(words.low, words.high, statusBits);
}

fn sumOf(a: Integers, b: Integers) -> Integers {
  let low = a.low + b.low;
  let carry = select(vec4u(), vec4u(1u), low < b.low);
  return Integers(low, a.high + b.high + carry, a.statusBits | b.statusBits);
}

fn intoSums(row: u32, col: u32, v: Integers, isFirst: bool) {
  let at = row * LDC + col;
  if (extent.accumulate == 0u && isFirst) {
    putSums(at, col, v.low, v.high);
  } else {
    addToSums(at, col, v.low, v.high);
  }
}

// For product `s` of a stack. Returns status bits, so that a thread calls `reportStatus` once and not for every value.
fn fixed4(row: u32, col: u32, acc: vec4f, s: u32) -> u32 {
  if (outside(row, col)) { return 0u; }
  let v = integersOf(row, col, acc, s);
  intoSums(row, col, v, s == 0u);
  return v.statusBits;
}

fn reportStatus(statusBits: u32) {
  if (statusBits != 0u) { atomicOr(&status[0], statusBits); }
}
