//! import attention_portable
// The sums of attention_subgroup.wgsl, each a chain in one order.

// Whether results are still to be scaled and rounded when the last block has been added.
const FINISHES = true;

fn dividedScores(s: Scores, _l: vec2f, _isLast: bool) -> Scores { return s; }
fn dividedShrink(shrink: vec2f, _l: vec2f, _isLast: bool) -> vec2f { return shrink; }

fn addDot(s: f32, l: vec4f, r: vec4f) -> f32 {
  return plusProduct(plusProduct(plusProduct(plusProduct(s, l.x, r.x), l.y, r.y), l.z, r.z), l.w, r.w);
}

// v + sum_n s_n r_n for the lane's two rows, in four dimensions.
fn weigh(v: Two, s: Scores, r: Passing) -> Two {
  let a = spread(r, 0u);
  let b = spread(r, 4u);
  let c = spread(r, 8u);
  let d = spread(r, 12u);
  return Two(
    addCombined(addCombined(addCombined(addCombined(v.a, s.a, a), s.b, b), s.c, c), s.d, d),
    addCombined(addCombined(addCombined(addCombined(v.b, s.e, a), s.f, b), s.g, c), s.h, d));
}

fn nextQkvGradients(s: Scores, r: Passing, at: u32, rows: vec2u, accumulate: bool) -> Two {
  var before = Two();
  if (accumulate) { before = ownQkvGradients(at, rows); }
  return weigh(before, s, r);
}

// rule (b): products with powers of two
fn nextOutputs(s: Scores, r: Passing, at: u32, rows: vec2u, shrink: vec2f, accumulate: bool) -> Two {
  var before = Two();
  if (accumulate) { before = ownOutputs(at, rows); }
  return weigh(Two(before.a * shrink.x, before.b * shrink.y), s, r);
}

fn finished(v: Two, by: vec2f) -> Two { return Two(finished4(v.a, vec4f(by.x)), finished4(v.b, vec4f(by.y))); }

fn scoreGradients(s: Scores) -> Scores { return operands(s); }

fn maximum(v: vec2f) -> vec2f { return wholeNotBelow(v.xyxy).xy; }
fn shrinkOf(before: vec2f, now: vec2f) -> vec2f { return shrink4(before.xyxy, now.xyxy).xy; }
fn addSums(l: vec2f, shrink: vec2f, s: Scores) -> vec2f {
  let first = keep(keep(sum4(s.a) + sum4(s.b)) + keep(sum4(s.c) + sum4(s.d)));
  let second = keep(keep(sum4(s.e) + sum4(s.f)) + keep(sum4(s.g) + sum4(s.h)));
  return vec2f(keep(keep(l.x * shrink.x) + first), keep(keep(l.y * shrink.y) + second));
}
fn inverseOf(l: vec2f) -> vec2f { return reciprocal4(l.xyxy).xy; }
fn logsumexpOf(m: vec2f, l: vec2f) -> vec2f { return vec2f(settle(m.x + log2Of(l.x)), settle(m.y + log2Of(l.y))); }
