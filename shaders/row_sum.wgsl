// Sums along a row, in which LANES threads share the row: a tree in workgroup memory. The importing shader declares LANES and
// ROWS, the number of rows of a workgroup. row_sum_portable.wgsl has the same names.

// How many parts a row's sum has.
override SUM_LANES: u32 = LANES;

var<workgroup> partial: array<vec2f, LANES * ROWS>;

// The sum over the row's lanes, in all of them.
fn overLanes(value: vec2f, lane: u32, local: u32) -> vec2f {
  if (LANES == 1u) { return value; }
  workgroupBarrier();
  partial[local] = value;
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) { partial[local] += partial[local + half]; }
  }
  workgroupBarrier();
  return partial[local - lane];
}

// A step from part to part. With SUM_LANES = LANES it is never taken.
fn nextPart(total: vec2f, part: vec2f) -> vec2f { return total + part; }
