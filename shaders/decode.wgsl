//! import decode_native  //! portable: //! import decode_portable
// Sampling, one token at a time: the embedding of the token, and attention of its query over the cached keys and values of
// all tokens so far. The linear layers are matrix products with one row.
//
//   embed    x[c] = wte[token, c] + wpe[position, c]       (by the window that holds the token's row)
//   append   cache[position] = (k | v) of qkv
//   score    scores[h, j] = q_h . k_jh / sqrt(D),  j <= position
//   combine  out[h, d] = sum over j of softmax(scores[h, :])_j v_jhd; every thread computes its head's softmax anew:
//            little work, and no barrier
//
// place [2] u32 = token, position; qkv [3 C]; cache [T, 2 C]; scores [H, T]; x, out [C].

override C: u32 = 4u;
override T: u32 = 4u;
override D: u32 = 4u;
override ROW_START: u32 = 0u;
override ROWS: u32 = 16u;

@group(0) @binding(0) var<storage, read> place: array<u32>;
@group(0) @binding(1) var<storage, read> wte: array<f32>;
@group(0) @binding(2) var<storage, read> wpe: array<f32>;
@group(0) @binding(3) var<storage, read_write> x: array<f32>;
@group(0) @binding(4) var<storage, read> qkv: array<f32>;
@group(0) @binding(5) var<storage, read_write> cache: array<f32>;
@group(0) @binding(6) var<storage, read> saved: array<f32>;
@group(0) @binding(7) var<storage, read_write> scores: array<f32>;
@group(0) @binding(8) var<storage, read> savedScores: array<f32>;

@compute @workgroup_size(64)
fn embed(@builtin(global_invocation_id) id: vec3u) {
  let c = id.x;
  let token = place[0] - ROW_START;
  if (c >= C || token >= ROWS) { return; }
  x[c] = settle(wte[token * C + c] + wpe[place[1] * C + c]);
}

@compute @workgroup_size(64)
fn append(@builtin(global_invocation_id) id: vec3u) {
  if (id.x < 2u * C) { cache[place[1] * 2u * C + id.x] = qkv[C + id.x]; }
}

@compute @workgroup_size(64)
fn score(@builtin(global_invocation_id) id: vec3u) {
  let j = id.x;
  let h = id.y;
  if (j > place[1]) { return; }
  var sum = 0.0;
  for (var d = 0u; d < D; d++) { sum = plusProduct(sum, qkv[h * D + d], saved[j * 2u * C + h * D + d]); }
  scores[h * T + j] = scaled(sum);
}

@compute @workgroup_size(64)
fn combine(@builtin(global_invocation_id) id: vec3u) {
  let c = id.x;
  if (c >= C) { return; }
  let base = (c / D) * T;
  let count = place[1] + 1u;
  var highest = savedScores[base];
  for (var j = 1u; j < count; j++) { highest = max(highest, savedScores[base + j]); }
  highest = maximum(highest);
  var sum = 0.0;
  var value = 0.0;
  for (var j = 0u; j < count; j++) {
    let p = exponential(savedScores[base + j], highest);
    sum = keep(sum + p);
    value = plusProduct(value, rounded(p), saved[j * 2u * C + C + c]);
  }
  x[c] = weighted(value, sum);
}
