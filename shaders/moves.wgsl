// Moves of weights in the low wire: small integers k, 4 bits each (two's complement), in units of 2^F. Four consecutive values
// share half a word.
//! import arithmetic

@group(0) @binding(17) var<uniform> unit: f32;  // 2^F

// The moves in the lowest 16 bits.
fn movesIn(bits: u32) -> vec4f {
  return vec4f(bitcast<vec4i>(vec4u(bits) << vec4u(28u, 24u, 20u, 16u)) >> vec4u(28u));
}

// rule (b): products with powers of two
fn inUnits(moves: vec4f) -> vec4f { return moves * unit; }

// The weights s after their moves.
fn moved(s: vec4f, moves: vec4f) -> vec4f { return settle4(s + inUnits(moves)); }
