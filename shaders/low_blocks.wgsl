// The low wire's blocks, shared by packing and unpacking. The format, with a drawing, is in cluster/exchange/low-blocks.ts.

const BLOCK_VECTORS = 32u;  // vec4s of a block of 128 values: value i of all four streams

// The width in bits of a code, 0 to 15: 0, 2, 3, 4 | 5, 6, 7, 8 | 9, 10, 12, 14 | 16, 24, 32, 64.
fn bitsOf(code: u32) -> u32 {
  let four = vec4u(0x04030200u, 0x08070605u, 0x0e0c0a09u, 0x40201810u)[code >> 2u];
  return (four >> (8u * (code & 3u))) & 255u;
}
