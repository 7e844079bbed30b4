// The sums of attention_subgroup.wgsl as the adapter computes them. attention_subgroup_portable.wgsl has the same functions.

// Whether results are still to be scaled and rounded when the last block has been added.
const FINISHES = false;

fn times(s: Scores, x: f32, y: f32) -> Scores {
  return Scores(s.a * x, s.b * x, s.c * x, s.d * x, s.e * y, s.f * y, s.g * y, s.h * y);
}

// In the last block what is added, and what was added before, are divided by the sum.
fn dividedScores(s: Scores, l: vec2f, isLast: bool) -> Scores {
  if (isLast) { return times(s, 1.0 / l.x, 1.0 / l.y); }
  return s;
}
fn dividedShrink(shrink: vec2f, l: vec2f, isLast: bool) -> vec2f {
  if (isLast) { return shrink / l; }
  return shrink;
}

fn addDots(s: vec4f, l: vec4f, r: Four) -> vec4f {
  return s + l.x * vec4f(r.a.x, r.b.x, r.c.x, r.d.x) + l.y * vec4f(r.a.y, r.b.y, r.c.y, r.d.y)
    + l.z * vec4f(r.a.z, r.b.z, r.c.z, r.d.z) + l.w * vec4f(r.a.w, r.b.w, r.c.w, r.d.w);
}

fn addDot(s: f32, l: vec4f, r: vec4f) -> f32 { return s + dot(l, r); }

fn combine(s: vec4f, r: Four) -> vec4f { return s.x * r.a + s.y * r.b + s.z * r.c + s.w * r.d; }

// Four dimensions of sum_n s_n r_n for the lane's two rows.
fn weigh(s: Scores, r: Passing) -> Two {
  let a = spread(r, 0u);
  let b = spread(r, 4u);
  let c = spread(r, 8u);
  let d = spread(r, 12u);
  return Two(
    combine(s.a, a) + combine(s.b, b) + combine(s.c, c) + combine(s.d, d),
    combine(s.e, a) + combine(s.f, b) + combine(s.g, c) + combine(s.h, d));
}

// sum_n s_n r_n, added to two of a lane's rows of qkvGradient if there is something to add to.
fn nextQkvGradients(s: Scores, r: Passing, at: u32, rows: vec2u, accumulate: bool) -> Two {
  var v = weigh(s, r);
  if (accumulate) {
    let before = ownQkvGradients(at, rows);
    v.a += before.a;
    v.b += before.b;
  }
  return v;
}

fn nextOutputs(s: Scores, r: Passing, at: u32, rows: vec2u, shrink: vec2f, accumulate: bool) -> Two {
  var v = weigh(s, r);
  if (accumulate) {
    let before = ownOutputs(at, rows);
    v.a += before.a * shrink.x;
    v.b += before.b * shrink.y;
  }
  return v;
}

fn finished(v: Two, by: vec2f) -> Two { return v; }

fn scoreGradients(s: Scores) -> Scores { return times(s, SCALE, SCALE); }

fn maximum(v: vec2f) -> vec2f { return v; }
fn shrinkOf(before: vec2f, now: vec2f) -> vec2f { return exp(before - now); }
fn sum4(v: vec4f) -> f32 { return (v.x + v.y) + (v.z + v.w); }
fn addSums(l: vec2f, shrink: vec2f, s: Scores) -> vec2f {
  return l * shrink + vec2f(sum4((s.a + s.b) + (s.c + s.d)), sum4((s.e + s.f) + (s.g + s.h)));
}
fn inverseOf(l: vec2f) -> vec2f { return 1.0 / l; }
fn logsumexpOf(m: vec2f, l: vec2f) -> vec2f { return m + log(l); }
