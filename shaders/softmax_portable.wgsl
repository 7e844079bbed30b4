//! import arithmetic
//! import loops
//! import row_sum_portable
// The softmax of a row of logits (cross_entropy.wgsl) in portable arithmetic, to base 2: `sum` is (m, sum of 2^(t - m)) with
// t = logit * log2(e), and m is the row's largest t, rounded up to a whole number. A first pass over the row finds m, so that
// no sum depends on the order in which maxima are found.

const LOG2E = 1.44269502;  // log2(e) and ln(2) as float32
const LN2 = 0.693147182;

var<workgroup> highest: array<f32, LANES * ROWS>;
var<workgroup> largest: array<u32, LANES * ROWS>;

// Which of the columns c to c + 3 a row has.
fn inside(c: u32) -> vec4<bool> { return vec4u(c) + vec4u(0u, 1u, 2u, 3u) < vec4u(V); }

// (m, 0) of the row whose first logit is `base`. No order of lanes changes a maximum.
fn rowMaximum(base: u32, lane: u32, local: u32) -> Softmax {
  var high = vec4f(LOWEST);
  var bits = vec4u();
  for (var at = base + 4u * lane; at < base + V; at += 4u * LANES) {
    let v = logits[at / 4u];
    high = max(high, select(vec4f(LOWEST), v, inside(at - base)));
    bits = max(bits, select(vec4u(), magnitudes(v), inside(at - base)));
  }
  var top = max(max(high.x, high.y), max(high.z, high.w));
  var most = max(max(bits.x, bits.y), max(bits.z, bits.w));
  if (LANES > 1u) {
    highest[local] = top;
    largest[local] = most;
    workgroupBarrier();
    for (var l = local - lane; l < local - lane + LANES; l++) {
      top = max(top, highest[l]);
      most = max(most, largest[l]);
    }
  }
  return Softmax(vec2f(-floor(-settle(top * LOG2E)), 0.0), most);
}

// One part of the row's sum.
fn weightsInPart(base: u32, s: Softmax, part: u32) -> vec2f {
  var sum = vec4f();
  for (var at = base + 4u * part; at < base + V; at += 4u * SUM_LANES) {
    sum = keep4(sum + select(vec4f(), weightOf4(s, logits[at / 4u]), inside(at - base)));
  }
  return vec2f(keep(keep(sum.x + sum.y) + keep(sum.z + sum.w)));
}

fn rowSoftmax(base: u32, lane: u32, local: u32) -> Softmax {
  var s = rowMaximum(base, lane, local);
  if (LANES == SUM_LANES) {
    s.sum.y = overLanes(weightsInPart(base, s, lane), lane, local).y;
    return s;
  }
  var total = vec2f();
  for (var part = 0u; part < rounds(SUM_LANES, extent.rows); part++) {
    total = nextPart(total, weightsInPart(base, s, part));
  }
  s.sum.y = total.y;
  return s;
}

fn lossOf(s: Softmax, logit: f32) -> f32 {
  let t = settle(logit * LOG2E);
  return settle(keep(log2Of(s.sum.y) + keep(s.sum.x - t)) * LN2);
}

fn inverseOf(s: Softmax, factor: f32) -> f32 { return settle(factor * reciprocal(s.sum.y)); }

fn weightOf(s: Softmax, logit: f32) -> f32 { return weightOf4(s, vec4f(logit)).x; }
fn weightOf4(s: Softmax, logits: vec4f) -> vec4f { return exp2Less4(settle4(logits * LOG2E), vec4f(s.sum.x)); }
