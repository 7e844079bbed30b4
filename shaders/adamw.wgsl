// AdamW (Loshchilov and Hutter, arXiv 1711.05101), as torch.optim.AdamW has it, from the exact gradient sums:
//
//   g = (sum as float32) * clipScale
//   w = w * (1 - lr * decay)          where the block decays
//   m = m + (g - m) * (1 - beta1);  v = v * beta2 + g * g * (1 - beta2)
//   w = w - stepSize * m / (sqrt(v) * inverseSqrtCorrection2 + eps)
//
// with stepSize = lr / (1 - beta1^t) and inverseSqrtCorrection2 = 1 / sqrt(1 - beta2^t), both from the host in float64.
// The same pass adds the squares of the gradients (before clipScale) chunk by chunk (squares.wgsl). Threads walk through a
// chunk side by side, so that a software adapter reads memory in order and computes an address once for many values. With
// CLEAR the pass also sets the sums to zero, because the next step adds to them.
// What differs between the wires is in update_exact.wgsl and update_low.wgsl.
// weights, m, v, low, high [n], n any multiple of 64.
//! import arithmetic
//! import squares
//! import gradients_exact  //! low: //! import gradients_low
//! import update_exact  //! low: //! import update_low

struct Step {
  clipScale: f32,
  decayFactor: f32,  // 1 - lr * decay
  beta2: f32,
  oneMinusBeta1: f32,
  oneMinusBeta2: f32,
  stepSize: f32,
  inverseSqrtCorrection2: f32,
  epsilon: f32,
  // What the low wire needs besides (update_low.wgsl).
  unit: f32,
  inverseUnit: f32,
  gridFactor: f32,
  noiseFactor: f32,
}

override CLEAR: bool = true;

@group(0) @binding(0) var<storage, read_write> weights: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> m: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> v: array<vec4f>;
@group(0) @binding(6) var<uniform> step: Step;

// Updates four values of a block; returns their gradient before clipScale.
fn updateAt(i: u32, unit: f32, decays: bool) -> vec4f {
  let gradient = gradientAt(i, unit);
  if (CLEAR) { clearSums(i); }
  let g = settle4(step.clipScale * gradient);
  let w = settle4(weightsAt(i) * select(1.0, step.decayFactor, decays));
  let before = m[i];
  let nextM = settle4(before + settle4(keep4(g - before) * step.oneMinusBeta1));
  let nextV = settle4(settle4(v[i] * step.beta2) + settle4(settle4(g * g) * step.oneMinusBeta2));
  let denominator = keep4(settle4(squareRoot4(nextV) * step.inverseSqrtCorrection2) + step.epsilon);
  m[i] = nextM;
  v[i] = nextV;
  putWeights(i, settle4(w - settle4(step.stepSize * quotient4(nextM, denominator))));
  noteFour(i, nextV, gradient);
  return gradient;
}

@compute @workgroup_size(CHUNK_THREADS)
fn update(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let begin = group.x * CHUNK_VECTORS;
  let end = min(arrayLength(&weights), begin + CHUNK_VECTORS);
  var own = vec4f();
  if (CHUNK_THREADS == CHUNK_LANES) {
    for (var first = begin; first < end; first += BLOCK_VECTORS) {
      let unit = unitAt(first / BLOCK_VECTORS);
      let decays = decaysAt(first / BLOCK_VECTORS);
      for (var i = first + thread; i < first + BLOCK_VECTORS; i += CHUNK_LANES) {
        let gradient = updateAt(i, unit, decays);
        own = keep4(own + settle4(gradient * gradient));
      }
    }
  } else {
    for (var at = begin; at < begin + CHUNK_VECTORS; at += STAGE_VECTORS) {
      for (var i = thread; i < STAGE_VECTORS; i += CHUNK_THREADS) {
        let block = (at + i) / BLOCK_VECTORS;
        if (at + i < end) { stage[i] = updateAt(at + i, unitAt(block), decaysAt(block)); } else { stage[i] = vec4f(); }
      }
      own = addStage(own, thread);
    }
  }
  finishChunk(group.x, thread, totalOfLanes(own, thread));
}
