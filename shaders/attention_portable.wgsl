//! import arithmetic
// Attention whose bits are the same on every adapter (portable.wgsl), for both kernels. Exponentials are to base 2. The same
// in TypeScript is src/reference/attention.ts.
//
// The running maximum is a whole number, rounded up. So what a greater maximum takes from the sums is a power of two, which is exact.
// Where it is not, because the product is too small for a float, the sum that it enters does not notice. Sums of products
// with operands of 12 bits are chains in one order: over the columns d of a head, over the keys j, or over the queries i.

override SCALE: f32 = 0.17677669529663687;   // 1 / sqrt(D)
override SCALE2: f32 = 0.25503486394882202;  // log2(e) / sqrt(D)

// Whether each step of a chain goes through `keep4`: the same bits where compilers keep the order of sums, and slower.
override KEEP_SUMS: bool = false;

// Whether results are still to be scaled and rounded when the last block has been added.
const FINISHES = true;

fn scaled4(s: vec4f) -> vec4f { return settle4(s * SCALE2); }
fn exponentials4(t: vec4f, m: vec4f) -> vec4f { return exp2Less4(t, m); }
fn probabilities4(t: vec4f, lse: vec4f) -> vec4f { return exp2Less4(keep4(t - lse), vec4f()); }
fn finished4(v: vec4f, by: vec4f) -> vec4f { return rounded4(settle4(v * by)); }

fn wholeNotBelow(v: vec4f) -> vec4f { return -floor(-v); }

// 2^(before - now), for whole numbers; 0 instead of what is below 2^-126.
fn shrink4(before: vec4f, now: vec4f) -> vec4f {
  let exponent = clamp(keep4(before - now), vec4f(-127.0), vec4f());
  return bitcast<vec4f>(bitcast<vec4u>(vec4i(exponent) + vec4i(127)) << vec4u(23u));
}

fn keepSum4(v: vec4f) -> vec4f {
  if (KEEP_SUMS) { return keep4(v); }
  return v;
}

fn addDots(s: vec4f, l: vec4f, r: Four) -> vec4f {
  var t = keepSum4(s + l.x * vec4f(r.a.x, r.b.x, r.c.x, r.d.x));
  t = keepSum4(t + l.y * vec4f(r.a.y, r.b.y, r.c.y, r.d.y));
  t = keepSum4(t + l.z * vec4f(r.a.z, r.b.z, r.c.z, r.d.z));
  return keepSum4(t + l.w * vec4f(r.a.w, r.b.w, r.c.w, r.d.w));
}

fn addCombined(o: vec4f, s: vec4f, r: Four) -> vec4f {
  var t = keepSum4(o + s.x * r.a);
  t = keepSum4(t + s.y * r.b);
  t = keepSum4(t + s.z * r.c);
  return keepSum4(t + s.w * r.d);
}

fn sum4(v: vec4f) -> f32 { return keep(keep(v.x + v.y) + keep(v.z + v.w)); }
