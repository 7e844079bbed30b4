// Maps the bits of a float to an integer with the same order; it is its own inverse. Weights travel as differences of these
// integers (cluster/exchange/blocks.ts): exact for any bits, and small where weights have moved little.
fn orderKey(bits: vec4u) -> vec4u {
  return bits ^ (bitcast<vec4u>(bitcast<vec4i>(bits) >> vec4u(31u)) & vec4u(0x7fffffffu));
}
