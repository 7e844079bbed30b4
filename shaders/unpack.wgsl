// Applies packed differences to weights, in place (format: cluster/exchange/blocks.ts). One workgroup takes a block; thread t
// has values 4t to 4t + 3, whole words of each plane. The weights are bits here, never floats.
// blocks [ceil(n / 256)]: offset * 16 + width of each block, checked by the host; weights [n], n any multiple of 64.
//! import order_key

@group(0) @binding(0) var<storage, read> packed: array<u32>;
@group(0) @binding(1) var<storage, read> blocks: array<u32>;
@group(0) @binding(2) var<storage, read_write> weights: array<vec4u>;

fn signedBytes(word: u32) -> vec4u {
  return bitcast<vec4u>(bitcast<vec4i>(vec4u(word) << vec4u(24u, 16u, 8u, 0u)) >> vec4u(24u));
}

fn halves(at: u32) -> vec4u {
  let x = packed[at];
  let y = packed[at + 1u];
  return vec4u(x & 0xffffu, x >> 16u, y & 0xffffu, y >> 16u);
}

@compute @workgroup_size(64)
fn apply(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) local: vec3u) {
  let i = group.x * 64u + local.x;
  let block = blocks[group.x];
  let width = block & 15u;
  if (i >= arrayLength(&weights) || width == 0u) { return; }
  let n = min(64u, arrayLength(&weights) - group.x * 64u);
  let at = block >> 4u;
  let t = local.x;
  var difference: vec4u;
  switch width {
    case 1u: { difference = signedBytes(packed[at + t]); }
    case 2u: { difference = bitcast<vec4u>(bitcast<vec4i>(halves(at + 2u * t) << vec4u(16u)) >> vec4u(16u)); }
    case 3u: {
      difference = halves(at + 2u * t) | (signedBytes(packed[at + 2u * n + t]) << vec4u(16u));
    }
    default: {
      let p = at + 4u * t;
      difference = vec4u(packed[p], packed[p + 1u], packed[p + 2u], packed[p + 3u]);
    }
  }
  weights[i] = orderKey(orderKey(weights[i]) + difference);
}
