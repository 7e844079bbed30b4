// AdamW (Loshchilov and Hutter, arXiv 1711.05101), as torch.optim.AdamW has it, from the exact gradient sums:
//
//   g = (sum on the grid, as float32) * clipScale
//   w = w * (1 - lr * decay)          where the block decays
//   m = m + (g - m) * (1 - beta1);  v = v * beta2 + g * g * (1 - beta2)
//   w = w - stepSize * m / (sqrt(v) * inverseSqrtCorrection2 + eps)
//
// with stepSize = lr / (1 - beta1^t) and inverseSqrtCorrection2 = 1 / sqrt(1 - beta2^t), both from the host in float64.
// The same pass adds up the squares of the gradients (before clipScale) by chunks (squares.wgsl), whose eight threads walk
// through the chunk side by side: a software adapter reads memory in order so, and computes an address once for many
// values. With CLEAR it also sets the sums to zero, for a next step that adds to them.
// weights, first, second, low, high [n], n any multiple of 64; squares: one value for each chunk; decayBits: one bit for
// each block of 64 values.
//! import grid
//! import squares

struct Step {
  clipScale: f32,
  decayFactor: f32,  // 1 - lr * decay
  beta2: f32,
  oneMinusBeta1: f32,
  oneMinusBeta2: f32,
  stepSize: f32,
  inverseSqrtCorrection2: f32,
  epsilon: f32,
}

override CLEAR: bool = true;

@group(0) @binding(0) var<storage, read_write> weights: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> first: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> second: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> low: array<vec4u>;
@group(0) @binding(4) var<storage, read_write> high: array<vec4u>;
@group(0) @binding(5) var<storage, read> decayBits: array<u32>;
@group(0) @binding(6) var<uniform> step: Step;
@group(0) @binding(7) var<storage, read_write> squares: array<f32>;

@compute @workgroup_size(CHUNK_LANES, CHUNKS)
fn update(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let chunk = group.x * CHUNKS + local.y;
  let end = min(arrayLength(&weights), (chunk + 1u) * CHUNK_VECTORS);
  // A chunk has 64 blocks. All that a software adapter loads, it loads lane by lane: so once, before the loop.
  let decays0 = decayBits[2u * chunk];
  let decays1 = decayBits[2u * chunk + 1u];
  var own = vec4f();
  for (var i = chunk * CHUNK_VECTORS + local.x; i < end; i += CHUNK_LANES) {
    let gradient = fromGrid(low[i], high[i]);
    if (CLEAR) {
      low[i] = vec4u();
      high[i] = vec4u();
    }
    own += gradient * gradient;
    let g = step.clipScale * gradient;
    let block = i / 16u % 64u;
    let decays = ((select(decays0, decays1, block >= 32u) >> (block % 32u)) & 1u) == 1u;
    let w = weights[i] * select(1.0, step.decayFactor, decays);
    let before = first[i];
    let m = before + (g - before) * step.oneMinusBeta1;
    let v = second[i] * step.beta2 + g * g * step.oneMinusBeta2;
    first[i] = m;
    second[i] = v;
    weights[i] = w - step.stepSize * (m / (sqrt(v) * step.inverseSqrtCorrection2 + step.epsilon));
  }
  let total = chunkSquares(own, local);
  if (local.x == 0u && chunk < arrayLength(&squares)) { squares[chunk] = total; }
}
