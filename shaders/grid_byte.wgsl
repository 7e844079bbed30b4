// The grid of the low wire (src/model/grid.ts): a byte for each block of 64 values of the flat array, four in a word. Bits 0
// to 6 hold E + 64: gradients of the block are multiples of 2^E. Bit 7 says whether weight decay applies to the block.

fn gridExponent(byte: u32) -> i32 { return i32(byte & 127u) - 64; }

fn byteIn(word: u32, block: u32) -> u32 { return (word >> (8u * (block % 4u))) & 255u; }

// 2^exponent, for exponents of normal numbers.
fn powerOfTwo(exponent: i32) -> f32 { return bitcast<f32>(u32(exponent + 127) << 23u); }
