// An integer that orders floats as their values, from the float's bits; its own inverse. Weights travel as differences
// of these (cluster/exchange/blocks.ts): exact whatever the bits are, and small when the weights have moved little.
fn orderKey(bits: vec4u) -> vec4u {
  return bits ^ (bitcast<vec4u>(bitcast<vec4i>(bits) >> vec4u(31u)) & vec4u(0x7fffffffu));
}
