// The softmax of a row of logits (cross_entropy.wgsl): `sum` is (maximum, sum of exp(x - maximum)). A lane keeps its own running
// maximum and sum (online softmax), so that the row is read once for both.

// Of each lane.
var<workgroup> partial: array<vec2f, LANES * ROWS>;
var<workgroup> largest: array<u32, LANES * ROWS>;

fn merge(a: vec2f, b: vec2f) -> vec2f {
  let m = max(a.x, b.x);
  return vec2f(m, a.y * exp(a.x - m) + b.y * exp(b.x - m));
}

// The softmax of the row whose first logit is `base`, a multiple of 4.
fn rowSoftmax(base: u32, lane: u32, local: u32) -> Softmax {
  var own = vec2f(LOWEST, 0.0);
  var bits = vec4u();
  // Eight values share one rescaling of the sum.
  let whole = base / 4u + V / (8u * LANES) * 2u * LANES;
  for (var i = base / 4u + lane; i < whole; i += 2u * LANES) {
    let a = logits[i];
    let b = logits[i + LANES];
    bits = max(bits, max(magnitudes(a), magnitudes(b)));
    let highest = max(a, b);
    let m = max(own.x, max(max(highest.x, highest.y), max(highest.z, highest.w)));
    let e = exp(a - m) + exp(b - m);
    own = vec2f(m, own.y * exp(own.x - m) + (e.x + e.y) + (e.z + e.w));
  }
  for (var at = 4u * whole + lane; at < base + V; at += LANES) {
    let x = logits[at / 4u][at % 4u];
    bits = max(bits, magnitudes(vec4f(x)));
    own = merge(own, vec2f(x, 1.0));
  }
  let most = max(max(bits.x, bits.y), max(bits.z, bits.w));
  if (LANES == 1u) { return Softmax(own, most); }
  partial[local] = own;
  largest[local] = most;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) {
      partial[local] = merge(partial[local], partial[local + half]);
      largest[local] = max(largest[local], largest[local + half]);
    }
  }
  workgroupBarrier();
  return Softmax(partial[local - lane], largest[local - lane]);
}

fn lossOf(s: Softmax, logit: f32) -> f32 { return s.sum.x + log(s.sum.y) - logit; }

// `factor` / the sum of the weights: what turns a weight into a probability times the factor.
fn inverseOf(s: Softmax, factor: f32) -> f32 { return factor / s.sum.y; }

fn weightOf(s: Softmax, logit: f32) -> f32 { return exp(logit - s.sum.x); }
fn weightOf4(s: Softmax, logits: vec4f) -> vec4f { return exp(logits - s.sum.x); }
