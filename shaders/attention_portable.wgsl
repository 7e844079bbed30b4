//! import chain
// Attention whose bits are the same on every adapter (portable.wgsl), for both kernels. The same in TypeScript is
// src/reference/attention.ts.
//
//   t_ij = log2(e) / sqrt(D) * sum_d q_id k_jd       p_ij = 2^(t_ij - m_i), backward 2^(t_ij - L_i)      L_i = m_i + log2 l_i
//
// Sums of products are chains: over the columns d of a head, the keys j or the queries i, in order. Their operands have 12
// bits, so a product is exact, fused or not.
// 16 keys share a maximum m, from the first key on. It is rounded up to a whole number, so `shrink` is a power of two, and
// scaling sums by it is exact. Only a sum below 2^-126 may become a denormal or zero, as the driver likes, and it does not
// matter: whatever is added next is 2^-100 or more, or the result rounds to zero. l always gets 1/2 or more when m grows.
// Scores and gradients are only kept, not settled, where magnitudes below 2^-100 change nothing: an exponential is 1 then, and
// a gradient rounds to zero. The maximum is settled.

override SCALE: f32 = 0.17677669529663687;   // 1 / sqrt(D)
override SCALE2: f32 = 0.25503486394882202;  // log2(e) / sqrt(D)

fn scaled4(s: vec4f) -> vec4f { return keep4(s * SCALE2); }
fn exponentials4(t: vec4f, m: vec4f) -> vec4f { return exp2Less4(t, m); }
fn probabilities4(t: vec4f, lse: vec4f) -> vec4f { return exp2Less4(keep4(t - lse), vec4f()); }
// A result, of sums that are finished.
fn finished4(v: vec4f, by: vec4f) -> vec4f { return rounded4(v * by); }

fn wholeNotBelow(v: vec4f) -> vec4f { return -floor(-settle4(v)); }

// 2^(before - now), for whole numbers; 0 instead of what is below 2^-126.
fn shrink4(before: vec4f, now: vec4f) -> vec4f {
  let exponent = max(keep4(before - now), vec4f(-127.0));
  return bitcast<vec4f>((bitcast<vec4u>(keep4(exponent + 12582912.0)) << vec4u(23u)) + vec4u(0x3f800000u));
}

fn addDots(s: vec4f, l: vec4f, r: Four) -> vec4f {
  var t = plusProduct4(s, l.x, vec4f(r.a.x, r.b.x, r.c.x, r.d.x));
  t = plusProduct4(t, l.y, vec4f(r.a.y, r.b.y, r.c.y, r.d.y));
  t = plusProduct4(t, l.z, vec4f(r.a.z, r.b.z, r.c.z, r.d.z));
  return plusProduct4(t, l.w, vec4f(r.a.w, r.b.w, r.c.w, r.d.w));
}

fn addCombined(o: vec4f, s: vec4f, r: Four) -> vec4f {
  let t = plusProduct4(plusProduct4(o, s.x, r.a), s.y, r.b);
  return plusProduct4(plusProduct4(t, s.z, r.c), s.w, r.d);
}

fn sum4(v: vec4f) -> f32 { return keep(keep(v.x + v.y) + keep(v.z + v.w)); }
