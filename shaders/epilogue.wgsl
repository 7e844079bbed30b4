//! import random
//! import gelu
//! import grid
//! import half_range
//! import unit
// What happens to a matrix product on its way out, in one place for all of its kernels. A call takes four consecutive
// values of one row of C[M, N], from column `col` (a multiple of 4) on; rows and columns beyond C are left out.
//
//   store4         c = residual + (acc + bias) * geluDerivative(gradient)      each part behind its flag
//   storeGelu4     c = acc + bias, geluOutput = gelu(c)
//   storeDropout4  c = residual + (acc + bias) * dropout factor
//   grid4          (low, high) += acc on the grid 2^-40; status |= what is wrong with it
//
// Every entry point calls one of them, so that it needs at most 8 storage buffers. A flag that is off folds away, but
// its variable must still be bound: any read-only view does.
//
// What backward and other products read may be float16: c (`halfC`), geluOutput (`halfGelu`), gradient (`halfGradient`).

override M: u32;
override N: u32;
override LDC: u32;
override BIAS = false;
override GELU_GRADIENT = false;
override RESIDUAL = false;
// The accumulators start from C.
override ACCUMULATE = false;
override ROWS_PER_SEQUENCE = 1u;

alias ValueC = f32;  //! halfC: alias ValueC = f16;
alias ValueGelu = f32;  //! halfGelu: alias ValueGelu = f16;
alias ValueGradient = f32;  //! halfGradient: alias ValueGradient = f16;
fn toC(v: f32) -> f32 { return v; }  //! halfC: fn toC(v: f32) -> f16 { return f16(halfRange(v)); }
fn toGelu(v: f32) -> f32 { return v; }  //! halfGelu: fn toGelu(v: f32) -> f16 { return f16(halfRange(v)); }

@group(0) @binding(4) var<storage, read_write> c: array<ValueC>;        // [M, N], leading dimension LDC
@group(0) @binding(5) var<storage, read> bias: array<f32>;              // [N]
@group(0) @binding(6) var<storage, read> gradient: array<ValueGradient>;  // [M, N], LDC: GELU's argument
@group(0) @binding(7) var<storage, read> residual: array<f32>;          // [M, N], LDC
@group(0) @binding(8) var<storage, read_write> geluOutput: array<ValueGelu>;  // [M, N], LDC
@group(0) @binding(9) var<uniform> key: DropoutKey;
@group(0) @binding(10) var<storage, read_write> low: array<u32>;        // [M, N], LDC
@group(0) @binding(11) var<storage, read_write> high: array<u32>;       // [M, N], LDC
@group(0) @binding(12) var<storage, read_write> status: array<atomic<u32>>;

fn outside(row: u32, col: u32) -> bool {
  return row >= M || col >= N;
}

fn put4(at: u32, col: u32, v: vec4f) {
  c[at] = toC(v.x);
  if (col + 1u < N) { c[at + 1u] = toC(v.y); }
  if (col + 2u < N) { c[at + 2u] = toC(v.z); }
  if (col + 3u < N) { c[at + 3u] = toC(v.w); }
}

fn addBias4(col: u32, v: vec4f) -> vec4f {
  if (!BIAS) { return v; }
  return v + vec4f(bias[col], bias[col + 1u], bias[col + 2u], bias[col + 3u]);
}

fn addResidual4(at: u32, v: vec4f) -> vec4f {
  if (!RESIDUAL) { return v; }
  return vec4f(residual[at], residual[at + 1u], residual[at + 2u], residual[at + 3u]) + v;
}

// Where the accumulators start. Values beyond the row are read, too, and never stored.
fn begin4(row: u32, col: u32) -> vec4f {
  if (!ACCUMULATE || outside(row, col)) { return vec4f(); }
  let at = row * LDC + col;
  return vec4f(vec4(c[at], c[at + 1u], c[at + 2u], c[at + 3u]));
}

fn store4(row: u32, col: u32, acc: vec4f) {
  if (outside(row, col)) { return; }
  let at = row * LDC + col;
  var v = addBias4(col, acc);
  if (GELU_GRADIENT) {
    v *= vec4f(
      geluDerivative(f32(gradient[at])),
      geluDerivative(f32(gradient[at + 1u])),
      geluDerivative(f32(gradient[at + 2u])),
      geluDerivative(f32(gradient[at + 3u])),
    );
  }
  put4(at, col, addResidual4(at, v));
}

fn storeGelu4(row: u32, col: u32, acc: vec4f) {
  if (outside(row, col)) { return; }
  let at = row * LDC + col;
  let v = addBias4(col, acc);
  put4(at, col, v);
  geluOutput[at] = toGelu(gelu(v.x));
  if (col + 1u < N) { geluOutput[at + 1u] = toGelu(gelu(v.y)); }
  if (col + 2u < N) { geluOutput[at + 2u] = toGelu(gelu(v.z)); }
  if (col + 3u < N) { geluOutput[at + 3u] = toGelu(gelu(v.w)); }
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
  put4(at, col, addResidual4(at, addBias4(col, acc) * factor));
}

fn gridAdd(at: u32, value: f32) {
  let bits = bitcast<u32>(inUnits(value));
  let wrong = gridStatus(bits);
  if (wrong != 0u) { atomicOr(&status[0], wrong); }
  let g = toGrid(bits);
  let l = low[at] + g.x;
  low[at] = l;
  high[at] += g.y + u32(l < g.x);
}

fn grid4(row: u32, col: u32, acc: vec4f) {
  if (outside(row, col)) { return; }
  let at = row * LDC + col;
  gridAdd(at, acc.x);
  if (col + 1u < N) { gridAdd(at + 1u, acc.y); }
  if (col + 2u < N) { gridAdd(at + 2u, acc.z); }
  if (col + 3u < N) { gridAdd(at + 3u, acc.w); }
}
