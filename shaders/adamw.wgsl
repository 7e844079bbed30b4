// AdamW (Loshchilov and Hutter, arXiv 1711.05101), as torch.optim.AdamW has it, from the exact gradient sums:
//
//   g = (sum in fixed point, as float32) * clipScale
//   w = w * (1 - lr * decay)          where the block decays
//   m = m + (g - m) * (1 - beta1);  v = v * beta2 + g * g * (1 - beta2)
//   w = w - stepSize * m / (sqrt(v) * inverseSqrtCorrection2 + eps)
//
// with stepSize = lr / (1 - beta1^t) and inverseSqrtCorrection2 = 1 / sqrt(1 - beta2^t), both from the host in float64.
// The same pass adds the squares of the gradients (before clipScale) chunk by chunk (squares.wgsl). Threads walk through a
// chunk side by side, so that a software adapter reads memory in order and computes an address once for many values. With
// CLEAR the pass also sets the sums to zero, because the next step adds to them.
// weights, m, v, low, high [n], n any multiple of 64; squares: one value for each chunk; decayBits: one bit for
// each block of 64 values.
//! import arithmetic
//! import fixed_point
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
@group(0) @binding(1) var<storage, read_write> m: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> v: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> low: array<vec4u>;
@group(0) @binding(4) var<storage, read_write> high: array<vec4u>;
@group(0) @binding(5) var<storage, read> decayBits: array<u32>;
@group(0) @binding(6) var<uniform> step: Step;
@group(0) @binding(7) var<storage, read_write> squares: array<f32>;

// One bit for each of the chunk's 64 blocks: whether weight decay applies to it. The bits are read before the loop, because a
// software adapter loads lane by lane.
fn decaysOf(chunk: u32) -> vec2u {
  return vec2u(decayBits[2u * chunk], decayBits[2u * chunk + 1u]);
}

// Updates four values; returns their gradient before clipScale.
fn updateAt(i: u32, decaying: vec2u) -> vec4f {
  let gradient = fromFixedPoint(low[i], high[i]);
  if (CLEAR) {
    low[i] = vec4u();
    high[i] = vec4u();
  }
  let g = settle4(step.clipScale * gradient);
  let block = i / 16u % 64u;
  let decays = ((select(decaying.x, decaying.y, block >= 32u) >> (block % 32u)) & 1u) == 1u;
  let w = settle4(weights[i] * select(1.0, step.decayFactor, decays));
  let before = m[i];
  let nextM = settle4(before + settle4(keep4(g - before) * step.oneMinusBeta1));
  let nextV = settle4(settle4(v[i] * step.beta2) + settle4(settle4(g * g) * step.oneMinusBeta2));
  let denominator = keep4(settle4(squareRoot4(nextV) * step.inverseSqrtCorrection2) + step.epsilon);
  m[i] = nextM;
  v[i] = nextV;
  weights[i] = settle4(w - settle4(step.stepSize * quotient4(nextM, denominator)));
  return gradient;
}

@compute @workgroup_size(CHUNK_THREADS)
fn update(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let begin = group.x * CHUNK_VECTORS;
  let end = min(arrayLength(&weights), begin + CHUNK_VECTORS);
  let decaying = decaysOf(group.x);
  var own = vec4f();
  if (CHUNK_THREADS == CHUNK_LANES) {
    for (var i = begin + thread; i < end; i += CHUNK_LANES) {
      let gradient = updateAt(i, decaying);
      own = keep4(own + settle4(gradient * gradient));
    }
  } else {
    for (var at = begin; at < begin + CHUNK_VECTORS; at += STAGE_VECTORS) {
      for (var i = thread; i < STAGE_VECTORS; i += CHUNK_THREADS) {
        if (at + i < end) { stage[i] = updateAt(at + i, decaying); } else { stage[i] = vec4f(); }
      }
      own = addStage(own, thread);
    }
  }
  let total = totalOfLanes(own, thread);
  if (thread == 0u) { squares[group.x] = total; }
}
