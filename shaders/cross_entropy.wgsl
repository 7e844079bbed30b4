// Softmax cross-entropy over rows of logits, a chunk of rows at a time.
//
//   loss[r] = logsumexp(logits[r, :]) - logits[r, target]     (0 where the target is IGNORED)
//   gradient: logits[r, v] <- (softmax(logits[r, :])[v] - [v = target]) * scale, in place
//   total: the 64-bit sum of all losses in fixed point
//
// logits [R, STRIDE], R = extent.rows, columns V and up are padding; targets, losses [R]; total [2] = low, high.
// scale = 1 / (tokens of the global batch), times the loss scale in mixed precision.
//
// LANES and ROWS as in layernorm.wgsl. A lane takes columns by vec4s, and the last few one by one. softmax.wgsl reads a row
// once for its maximum and its sum, softmax_portable.wgsl twice. Loops begin at the row, as in layernorm.wgsl. Portable
// arithmetic stores gradients rounded.
// A driver may turn a NaN in max and exp into anything (SwiftShader: something finite). So the bits of the largest magnitude
// are kept as well, and become the loss where they are not finite.
//! import arithmetic
//! import extent
//! import fixed_point
//! import softmax  //! portable: //! import softmax_portable

override V: u32 = 16u;
override STRIDE: u32 = 64u;
override LANES: u32 = 1u;
override ROWS: u32 = 8u;
const IGNORED = 0xffffffffu;
const LOWEST = -3.4e38;  // where a maximum begins

struct Scale { scale: f32 }

@group(0) @binding(0) var<storage, read_write> logits: array<vec4f>;
@group(0) @binding(1) var<storage, read> targets: array<u32>;
@group(0) @binding(2) var<storage, read_write> losses: array<f32>;
@group(0) @binding(3) var<uniform> scale: Scale;
@group(0) @binding(4) var<storage, read> allLosses: array<f32>;
@group(0) @binding(5) var<storage, read_write> total: array<u32>;
@group(0) @binding(6) var<storage, read_write> status: atomic<u32>;

// Of a row. What its two numbers are is for softmax.wgsl and softmax_portable.wgsl to say.
struct Softmax {
  sum: vec2f,
  largest: u32,  // the bits of the largest magnitude
}

fn magnitudes(v: vec4f) -> vec4u { return bitcast<vec4u>(v) & vec4u(0x7fffffffu); }

fn rowLoss(row: u32, s: Softmax) -> f32 {
  let goal = targets[row];
  if (goal == IGNORED) { return 0.0; }
  let at = row * STRIDE + min(goal, V - 1u);
  let value = lossOf(s, logits[at / 4u][at % 4u]);
  return bitcast<f32>(select(bitcast<u32>(value), s.largest, s.largest >= 0x7f800000u));
}

@compute @workgroup_size(LANES * ROWS)
fn loss(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let lane = local % LANES;
  let index = group.x * ROWS + local / LANES;
  let row = min(index, extent.rows - 1u);
  let s = rowSoftmax(row * STRIDE, lane, local);
  if (index < extent.rows && lane == 0u) { losses[row] = rowLoss(row, s); }
}

@compute @workgroup_size(LANES * ROWS)
fn gradient(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let lane = local % LANES;
  let index = group.x * ROWS + local / LANES;
  let row = min(index, extent.rows - 1u);
  let base = row * STRIDE;
  let s = rowSoftmax(base, lane, local);
  let goal = targets[row];
  let own = rowLoss(row, s);
  // The target's logit is read before any lane overwrites it.
  if (LANES > 1u) { workgroupBarrier(); }
  if (index >= extent.rows) { return; }
  if (lane == 0u) { losses[row] = own; }
  let factor = select(scale.scale, 0.0, goal == IGNORED);
  let inverse = inverseOf(s, factor);
  let target4 = vec4u(base + goal) - vec4u(0u, 1u, 2u, 3u);
  for (var i = base / 4u + lane; i < (base + V) / 4u; i += LANES) {
    let p = settle4(weightOf4(s, logits[i]) * inverse);
    logits[i] = rounded4(select(p, keep4(p - factor), vec4u(4u * i) == target4));
  }
  for (var at = (base + V) / 4u * 4u + lane; at < base + V; at += LANES) {
    let p = settle(weightOf(s, logits[at / 4u][at % 4u]) * inverse);
    logits[at / 4u][at % 4u] = rounded(select(p, keep(p - factor), at == base + goal));
  }
}

var<workgroup> sums: array<vec2u, 64>;

@compute @workgroup_size(64)
fn sumLosses(@builtin(local_invocation_id) local: vec3u) {
  var sum = vec2u();
  for (var i = local.x; i < arrayLength(&allLosses); i += 64u) {
    let bits = bitcast<u32>(allLosses[i]);
    let statusBits = fixedPointStatus(bits);
    if (statusBits != 0u) { atomicOr(&status, statusBits); }
    sum = add64(sum, toFixedPoint(bits));
  }
  sums[local.x] = sum;
  workgroupBarrier();
  if (local.x != 0u) { return; }
  var all = vec2u(total[0], total[1]);
  for (var i = 0u; i < 64u; i++) { all = add64(all, sums[i]); }
  total[0] = all.x;
  total[1] = all.y;
}
