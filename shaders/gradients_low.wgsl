// Gradients as float32, from their sums in the low wire, which are integers in units of 2^E (grid_byte.wgsl), and where the sums
// of squares go. gradients_exact.wgsl has the same functions.
// low, high [n]; with `owner` low holds the low words, then the high words; grid: a byte for each 64 values; squares: two values
// for each chunk, the sum of squares and the noise (update_low.wgsl).
//! import fixed_point
//! import grid_byte

@group(0) @binding(3) var<storage, read_write> low: array<vec4u>;
@group(0) @binding(4) var<storage, read_write> high: array<vec4u>;  //! owner: // The high words follow the low ones.
@group(0) @binding(7) var<storage, read_write> squares: array<vec2f>;
@group(0) @binding(9) var<storage, read_write> grid: array<u32>;

fn highAt(i: u32) -> vec4u { return high[i]; }  //! owner: fn highAt(i: u32) -> vec4u { return low[i + arrayLength(&low) / 2u]; }
fn clearHigh(i: u32) { high[i] = vec4u(); }  //! owner: fn clearHigh(i: u32) { low[i + arrayLength(&low) / 2u] = vec4u(); }

// The grid byte of the block that holds vec4 i.
fn gridByteAt(i: u32) -> u32 { return byteIn(grid[i / 64u], i / 16u); }

// rule (b): products with powers of two
fn gradientAt(i: u32) -> vec4f {
  return fromFixedPoint(low[i], highAt(i)) * powerOfTwo(gridExponent(gridByteAt(i)) + FIXED_POINT_EXPONENT);
}

fn clearSums(i: u32) {
  low[i] = vec4u();
  clearHigh(i);
}

fn putSquares(chunk: u32, sum: f32) { squares[chunk].x = sum; }
