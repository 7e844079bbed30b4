// The sums of attention_tile.wgsl, each a chain in one order. Of a block of 32 keys, 16 share a maximum: those of threads
// 0 .. 3 of a row, and those of threads 4 .. 7.

var<workgroup> sums: array<vec4f, 64>;

// rule (b): products with powers of two
fn scaled(o: Four, by: vec4f) -> Four { return Four(o.a * by.x, o.b * by.y, o.c * by.z, o.d * by.w); }

fn finished(o: Four, by: vec4f) -> Four {
  return Four(
    finished4(o.a, vec4f(by.x)), finished4(o.b, vec4f(by.y)), finished4(o.c, vec4f(by.z)), finished4(o.d, vec4f(by.w)));
}
fn scaledResult(o: Four) -> Four { return finished(o, vec4f(SCALE)); }
fn result(o: Four) -> Four { return Four(rounded4(o.a), rounded4(o.b), rounded4(o.c), rounded4(o.d)); }

// The maximum of m and of what threads x .. x + 3 of each row left in `reduction`.
fn maximumOf(p: Place, m: vec4f, x: u32) -> vec4f {
  var top = m;
  for (var n = 0u; n < rounds(4u, p.batch); n++) { top = max(top, reduction[(x + n) * 8u + p.y]); }
  return wholeNotBelow(top);
}

// l with the sums of the 16 keys of threads x .. x + 3.
fn addSums(p: Place, l: vec4f, shrink: vec4f, x: u32) -> vec4f {
  let at = x * 8u + p.y;
  return keep4(keep4(l * shrink) + keep4(keep4(sums[at] + sums[at + 8u]) + keep4(sums[at + 16u] + sums[at + 24u])));
}

// o, which `first` shrinks, and the first 16 rows of the values; then `second` and the other 16 rows.
fn addHalves(o: Four, p: Place, key: u32, d: u32, first: vec4f, second: vec4f) -> Four {
  workgroupBarrier();
  loadQkv(RIGHT, p, 2u, key, d);
  workgroupBarrier();
  return addProductOf(scaled(addProductOf(scaled(o, first), p, 0u, 4u), second), p, 4u, 4u);
}

fn runForward(group: vec3u, groups: vec3u, thread: u32) {
  let p = placeOf(group, groups, thread);
  let first = (groups.x - 1u - group.x) * ROWS;  // the longest rows start first
  let i = first + p.y * 4u;
  var m = vec4f(LOWEST);  // of the four rows
  var l = vec4f();
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
    let middle = maximumOf(p, m, 0u);
    let top = maximumOf(p, middle, 4u);
    let shrink0 = shrink4(m, middle);
    let shrink1 = shrink4(middle, top);
    m = top;
    let own = select(top, middle, p.x < 4u);
    s = Four(
      exponentials4(s.a, vec4f(own.x)), exponentials4(s.b, vec4f(own.y)),
      exponentials4(s.c, vec4f(own.z)), exponentials4(s.d, vec4f(own.w)));
    sums[p.x * 8u + p.y] = vec4f(sum4(s.a), sum4(s.b), sum4(s.c), sum4(s.d));
    if (DROPOUT) {
      s.a = keep4(s.a * factorsOf(p, i, j));
      s.b = keep4(s.b * factorsOf(p, i + 1u, j));
      s.c = keep4(s.c * factorsOf(p, i + 2u, j));
      s.d = keep4(s.d * factorsOf(p, i + 3u, j));
    }
    storeScores(p, result(s));
    o0 = addHalves(o0, p, key, 0u, shrink0, shrink1);
    if (D > 32u) { o1 = addHalves(o1, p, key, 32u, shrink0, shrink1); }
    if (D > 64u) { o2 = addHalves(o2, p, key, 64u, shrink0, shrink1); }
    if (D > 96u) { o3 = addHalves(o3, p, key, 96u, shrink0, shrink1); }
    l = addSums(p, addSums(p, l, shrink0, 0u), shrink1, 4u);
  }
  let inverse = reciprocal4(l);
  storeOut(p, i, 0u, finished(o0, inverse));
  if (D > 32u) { storeOut(p, i, 1u, finished(o1, inverse)); }
  if (D > 64u) { storeOut(p, i, 2u, finished(o2, inverse)); }
  if (D > 96u) { storeOut(p, i, 3u, finished(o3, inverse)); }
  storeLogsumexps(p, i, vec4f(
    settle(m.x + log2Of(l.x)), settle(m.y + log2Of(l.y)), settle(m.z + log2Of(l.z)), settle(m.w + log2Of(l.w))));
}

// delta of token i, in thread 0 of its 8 threads.
fn sumOfProducts(p: Place, i: u32) -> f32 {
  var sum = 0.0;
  if (p.x == 0u && i < T) {
    let at = ((p.b * T + i) * HEADS + p.h) * D;
    for (var d = 0u; d < D; d++) { sum = plusProduct(sum, f32(outRead[at + d]), f32(outGradient[at + d])); }
  }
  return settle(sum);
}
