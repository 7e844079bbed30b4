// The sums of attention_tile.wgsl as the adapter computes them. attention_tile_portable.wgsl has the same functions.

fn addDots(s: vec4f, l: vec4f, r: Four) -> vec4f {
  return s + vec4f(dot(l, r.a), dot(l, r.b), dot(l, r.c), dot(l, r.d));
}

fn addCombined(o: vec4f, s: vec4f, r: Four) -> vec4f {
  return o + (s.x * r.a + s.y * r.b + s.z * r.c + s.w * r.d);
}

fn scaled(o: Four, by: vec4f) -> Four { return Four(o.a * by.x, o.b * by.y, o.c * by.z, o.d * by.w); }
fn scaledResult(o: Four) -> Four { return scaled(o, vec4f(SCALE)); }
fn result(o: Four) -> Four { return o; }

fn sum4(v: vec4f) -> f32 { return (v.x + v.y) + (v.z + v.w); }

fn runForward(group: vec3u, groups: vec3u, thread: u32) {
  let p = placeOf(group, groups, thread);
  let first = (groups.x - 1u - group.x) * ROWS;  // the longest rows start first
  let i = first + p.y * 4u;
  var m = vec4f(LOWEST);  // of the four rows
  var l = vec4f();        // of the thread's own columns
  var o0 = Four(); var o1 = Four(); var o2 = Four(); var o3 = Four();
  for (var key = 0u; key <= first; key += ROWS) {
    var s = scoresOf(p, 0u, first, 1u, key);
    let j = key + p.x * 4u;
    s.a = select(vec4f(LOWEST), s.a, keysUpTo(i, j));
    s.b = select(vec4f(LOWEST), s.b, keysUpTo(i + 1u, j));
    s.c = select(vec4f(LOWEST), s.c, keysUpTo(i + 2u, j));
    s.d = select(vec4f(LOWEST), s.d, keysUpTo(i + 3u, j));
    reduction[p.x * 8u + p.y] = vec4f(max4(s.a), max4(s.b), max4(s.c), max4(s.d));
    workgroupBarrier();
    var top = m;
    for (var x = 0u; x < rounds(8u, p.batch); x++) { top = max(top, reduction[x * 8u + p.y]); }
    let shrink = exp(m - top);
    m = top;
    s = Four(exp(s.a - m.x), exp(s.b - m.y), exp(s.c - m.z), exp(s.d - m.w));
    l = l * shrink + vec4f(sum4(s.a), sum4(s.b), sum4(s.c), sum4(s.d));
    if (DROPOUT) {
      s.a *= factorsOf(p, i, j);
      s.b *= factorsOf(p, i + 1u, j);
      s.c *= factorsOf(p, i + 2u, j);
      s.d *= factorsOf(p, i + 3u, j);
    }
    storeScores(p, s);
    o0 = addValues(scaled(o0, shrink), p, 2u, key, 0u);
    if (D > 32u) { o1 = addValues(scaled(o1, shrink), p, 2u, key, 32u); }
    if (D > 64u) { o2 = addValues(scaled(o2, shrink), p, 2u, key, 64u); }
    if (D > 96u) { o3 = addValues(scaled(o3, shrink), p, 2u, key, 96u); }
  }
  reduction[p.x * 8u + p.y] = l;
  workgroupBarrier();
  var sum = vec4f();
  for (var x = 0u; x < rounds(8u, p.batch); x++) { sum += reduction[x * 8u + p.y]; }
  let inverse = 1.0 / sum;
  storeOut(p, i, 0u, scaled(o0, inverse));
  if (D > 32u) { storeOut(p, i, 1u, scaled(o1, inverse)); }
  if (D > 64u) { storeOut(p, i, 2u, scaled(o2, inverse)); }
  if (D > 96u) { storeOut(p, i, 3u, scaled(o3, inverse)); }
  storeLogsumexps(p, i, m + log(sum));
}

// delta of token i, in thread 0 of its 8 threads.
fn sumOfProducts(p: Place, i: u32) -> f32 {
  var sum = 0.0;
  if (i < T) {
    let at = ((p.b * T + i) * HEADS + p.h) * D;
    for (var d = p.x; d < D; d += 8u) { sum += f32(outRead[at + d]) * f32(outGradient[at + d]); }
  }
  reduction[p.thread] = vec4f(sum);
  workgroupBarrier();
  var total = 0.0;
  if (p.x == 0u && i < T) {
    for (var x = 0u; x < rounds(8u, p.batch); x++) { total += reduction[p.thread + x].x; }
  }
  return total;
}
