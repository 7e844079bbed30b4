// Sums of squares of the gradients in chunks of 65,536 values, in an order that depends on nothing: lane l adds the
// values l, l + 64, l + 128 ... (four apart each), then one thread adds the 64 lanes. The host adds the chunks in
// float64.
// low, high [n] (64-bit sums, n any multiple of 64); squares: one value for each chunk of the slab.
//! import grid

const CHUNK = 65536u;
override FIRST: u32 = 0u;  // the place in `squares` of this binding's first chunk

@group(0) @binding(0) var<storage, read> low: array<vec4u>;
@group(0) @binding(1) var<storage, read> high: array<vec4u>;
@group(0) @binding(2) var<storage, read_write> squares: array<f32>;

var<workgroup> partial: array<f32, 64>;

@compute @workgroup_size(64)
fn chunk_squares(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let end = min(arrayLength(&low), (group.x + 1u) * (CHUNK / 4u));
  var sum = vec4f();
  for (var i = group.x * (CHUNK / 4u) + local.x; i < end; i += 64u) {
    let l = low[i];
    let h = high[i];
    let g = vec4f(fromGrid(l.x, h.x), fromGrid(l.y, h.y), fromGrid(l.z, h.z), fromGrid(l.w, h.w));
    sum += g * g;
  }
  partial[local.x] = (sum.x + sum.y) + (sum.z + sum.w);
  workgroupBarrier();
  if (local.x != 0u) { return; }
  var total = 0.0;
  for (var i = 0u; i < 64u; i++) { total += partial[i]; }
  squares[FIRST + group.x] = total;
}
