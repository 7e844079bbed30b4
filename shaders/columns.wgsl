//! import arithmetic
//! import extent
//! import rounding_exact  //! low: //! import rounding_low
//! import loops
//! import unit
// Sums over rows: the gradients of biases and of LayerNorm's gain and bias, rounded to fixed point and added to the 64-bit
// sums. A column's rows are cut into chunks of ROWS. The rows of a chunk are added in order, then the chunks in order.
//
// dy, x [S * M, N]; stats [S * M, 2] = mean, rstd; low, high [N] for `bias`, [BIAS_AT + N] for `norm`.
//   bias  sum of dy[r, n]
//   norm  sum of dy * xhat at n (the gain's gradient), sum of dy at BIAS_AT + n: gain and bias are neighbours in the flat
//         array
//
// A stack has S = extent.stack micro-batches of M = extent.rows rows each, one below another. Each micro-batch is summed and
// rounded on its own. Unless the extent accumulates, the first one overwrites the sums.
//
// A thread takes four columns. SLICES threads share these columns: each takes a chunk, then they take the next SLICES chunks
// of the stack. Their sums meet in workgroup memory. On a software adapter a barrier costs more than threads gain, so SLICES
// is 1, and the sharing folds away. The order of additions is the same.

alias Gradient = f32;  //! f16Gradient: alias Gradient = f16;

override N: u32 = 4u;
override ROWS: u32 = 64u;
override SLICES: u32 = 1u;
override LANES: u32 = 8u;  // columns / 4 of a workgroup
override BIAS_AT: u32 = 0u;

@group(0) @binding(0) var<storage, read> dy: array<vec4<Gradient>>;
@group(0) @binding(1) var<storage, read> x: array<vec4f>;
@group(0) @binding(2) var<storage, read> stats: array<vec2f>;
@group(0) @binding(3) var<storage, read_write> low: array<u32>;
@group(0) @binding(4) var<storage, read_write> high: array<u32>;
@group(0) @binding(5) var<storage, read_write> status: atomic<u32>;

struct Sums { gain: vec4f, bias: vec4f }

var<workgroup> slices: array<Sums, LANES * SLICES>;

// Four values from `at` on. They are loaded one by one where rows may begin inside a vec4.
//! each VALUES: dy x
fn VALUES4(at: u32) -> vec4f {
  let i = at / 4u;
  if (N % 4u == 0u) { return vec4f(VALUES[i]); }
  return vec4f(vec4(VALUES[i][at % 4u], VALUES[(at + 1u) / 4u][(at + 1u) % 4u], VALUES[(at + 2u) / 4u][(at + 2u) % 4u], VALUES[(at + 3u) / 4u][(at + 3u) % 4u]));
}
//! end

fn add4(at: u32, n: u32, values: vec4f, batch: u32) {
  let accumulate = extent.accumulate != 0u || batch > 0u;
  for (var k = 0u; k < rounds(min(4u, N - n), extent.stack); k++) {
    let bits = bitcast<u32>(inUnits(values[k]));
    let statusBits = fixedPointStatus(bits);
    if (statusBits != 0u) { atomicOr(&status, statusBits); }
    var total = integerOf(at + k, batch, bits);
    if (accumulate) { total = add64(vec2u(low[at + k], high[at + k]), total); }
    low[at + k] = total.x;
    high[at + k] = total.y;
  }
}

fn plus(a: Sums, b: Sums) -> Sums {
  return Sums(keep4(a.gain + b.gain), keep4(a.bias + b.bias));
}

// The number of chunks of a micro-batch, and of the stack.
fn chunksEach() -> u32 { return (extent.rows + ROWS - 1u) / ROWS; }

fn chunks() -> u32 { return chunksEach() * extent.stack; }

// Rows of a chunk: the first one, and the one past the last. A chunk past the last one has no rows.
fn rowsOf(chunk: u32) -> vec2u {
  let batch = chunk / chunksEach();
  let start = batch * extent.rows + chunk % chunksEach() * ROWS;
  let end = min((batch + 1u) * extent.rows, start + ROWS);
  return select(vec2u(start, end), vec2u(), chunk >= chunks());
}

fn finish(n: u32, batch: u32, sum: Sums, isNorm: bool) {
  if (n >= N) { return; }
  if (!isNorm) {
    add4(n, n, sum.bias, batch);
  } else {
    add4(n, n, sum.gain, batch);
    add4(BIAS_AT + n, n, sum.bias, batch);
  }
}

// Adds the next SLICES chunks, from `first` on, to `sum`; this thread has summed `own`. A micro-batch that is complete is
// rounded and added to the 64-bit sums. Returns the sum of the last, incomplete micro-batch.
fn inOrder(sum: Sums, own: Sums, first: u32, n: u32, local: vec3u, isNorm: bool) -> Sums {
  var total = sum;
  if (SLICES == 1u) {
    total = plus(sum, own);
    if ((first + 1u) % chunksEach() == 0u) {
      finish(n, first / chunksEach(), total, isNorm);
      total = Sums();
    }
    return total;
  }
  workgroupBarrier();
  slices[local.y * LANES + local.x] = own;
  workgroupBarrier();
  if (local.y == 0u) {
    for (var chunk = first; chunk < min(first + SLICES, chunks()); chunk++) {
      total = plus(total, slices[(chunk - first) * LANES + local.x]);
      if ((chunk + 1u) % chunksEach() == 0u) {
        finish(n, chunk / chunksEach(), total, isNorm);
        total = Sums();
      }
    }
  }
  return total;
}

@compute @workgroup_size(LANES, SLICES)
fn bias(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let n = 4u * (group.x * LANES + local.x);
  // Threads past the last column compute the last ones and store nothing, so that barriers stay uniform.
  let column = min(n, (N - 1u) / 4u * 4u);
  var sum = Sums();
  for (var first = 0u; first < chunks(); first += SLICES) {
    let rows = rowsOf(first + local.y);
    var own = Sums();
    for (var at = rows.x * N + column; at < rows.y * N; at += N) { own.bias = keep4(own.bias + dy4(at)); }
    sum = inOrder(sum, own, first, n, local, false);
  }
}

@compute @workgroup_size(LANES, SLICES)
fn norm(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let n = 4u * (group.x * LANES + local.x);
  let column = min(n, (N - 1u) / 4u * 4u);
  var sum = Sums();
  for (var first = 0u; first < chunks(); first += SLICES) {
    let rows = rowsOf(first + local.y);
    var own = Sums();
    for (var row = rows.x; row < rows.y; row++) {
      let meanRstd = stats[row];
      let d = dy4(row * N + column);
      own.gain = keep4(own.gain + settle4(settle4(d * keep4(x4(row * N + column) - meanRstd.x)) * meanRstd.y));
      own.bias = keep4(own.bias + d);
    }
    sum = inOrder(sum, own, first, n, local, true);
  }
}
