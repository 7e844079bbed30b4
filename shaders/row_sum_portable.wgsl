//! import arithmetic
// Sums along a row in portable arithmetic. A sum has eight parts, whatever the adapter: part l takes the vec4s at columns
// 4 (l + 8 i). The parts are added in order. With LANES = 8 a thread has a part, and they meet in workgroup memory. With
// LANES = 1 a thread takes all parts of its row, one after another (nextPart). The importing shader declares LANES and ROWS.

const SUM_LANES = 8u;

var<workgroup> partial: array<vec2f, LANES * ROWS>;

// The sum over the row's lanes, in all of them. Only for LANES = SUM_LANES.
fn overLanes(value: vec2f, lane: u32, local: u32) -> vec2f {
  workgroupBarrier();
  partial[local] = value;
  workgroupBarrier();
  var total = vec2f();
  for (var l = 0u; l < LANES; l++) { total = nextPart(total, partial[local - lane + l]); }
  return total;
}

fn nextPart(total: vec2f, part: vec2f) -> vec2f { return vec2f(keep(total.x + part.x), keep(total.y + part.y)); }
