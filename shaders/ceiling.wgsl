// The ceiling of an adapter, measured without a model: the yardstick of `bench` and `doctor`.
//
// multiplyAdd: a = a * x + y in 16 independent accumulators a thread, without loads in the loop. 16 chains hide the latency
// of a multiply-add and still fit into registers. x, y and the first values come from `seeds` [4], and a thread stores its
// sum in `huge` [1] if the sum is huge. So no compiler can fold the loop or leave it out. The number of rounds is data, so
// that one pipeline serves every length. A round is 2 x 16 multiply-adds, 64 operations.
//
// copy: destination[i] = source[i], 16 bytes a thread, neighbours side by side.

@group(0) @binding(0) var<uniform> rounds: vec4u;  // x counts
@group(0) @binding(1) var<storage, read> seeds: array<f32, 4>;  // x, y, difference of threads, difference of accumulators
@group(0) @binding(2) var<storage, read_write> huge: array<f32>;
@group(0) @binding(3) var<storage, read> source: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> destination: array<vec4f>;

@compute @workgroup_size(64)
fn multiplyAdd(@builtin(global_invocation_id) id: vec3u) {
  let x = seeds[0];
  let y = seeds[1];
  let first = seeds[2] * f32(id.x);
  let apart = seeds[3];
  var a0 = first;
  var a1 = first + apart;
  var a2 = first + 2.0 * apart;
  var a3 = first + 3.0 * apart;
  var a4 = first + 4.0 * apart;
  var a5 = first + 5.0 * apart;
  var a6 = first + 6.0 * apart;
  var a7 = first + 7.0 * apart;
  var a8 = first + 8.0 * apart;
  var a9 = first + 9.0 * apart;
  var a10 = first + 10.0 * apart;
  var a11 = first + 11.0 * apart;
  var a12 = first + 12.0 * apart;
  var a13 = first + 13.0 * apart;
  var a14 = first + 14.0 * apart;
  var a15 = first + 15.0 * apart;
  for (var round = 0u; round < rounds.x; round++) {
    a0 = a0 * x + y;
    a1 = a1 * x + y;
    a2 = a2 * x + y;
    a3 = a3 * x + y;
    a4 = a4 * x + y;
    a5 = a5 * x + y;
    a6 = a6 * x + y;
    a7 = a7 * x + y;
    a8 = a8 * x + y;
    a9 = a9 * x + y;
    a10 = a10 * x + y;
    a11 = a11 * x + y;
    a12 = a12 * x + y;
    a13 = a13 * x + y;
    a14 = a14 * x + y;
    a15 = a15 * x + y;
    a0 = a0 * x + y;
    a1 = a1 * x + y;
    a2 = a2 * x + y;
    a3 = a3 * x + y;
    a4 = a4 * x + y;
    a5 = a5 * x + y;
    a6 = a6 * x + y;
    a7 = a7 * x + y;
    a8 = a8 * x + y;
    a9 = a9 * x + y;
    a10 = a10 * x + y;
    a11 = a11 * x + y;
    a12 = a12 * x + y;
    a13 = a13 * x + y;
    a14 = a14 * x + y;
    a15 = a15 * x + y;
  }
  let lower = ((a0 + a1) + (a2 + a3)) + ((a4 + a5) + (a6 + a7));
  let upper = ((a8 + a9) + (a10 + a11)) + ((a12 + a13) + (a14 + a15));
  if (lower + upper > 1e30) { huge[0] = lower + upper; }
}

@compute @workgroup_size(64)
fn copy(@builtin(global_invocation_id) id: vec3u, @builtin(num_workgroups) groups: vec3u) {
  let i = id.x + id.y * groups.x * 64u;
  if (i < arrayLength(&destination)) { destination[i] = source[i]; }
}
