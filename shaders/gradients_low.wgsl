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

fn gridByteAt(block: u32) -> u32 { return byteIn(grid[block / 4u], block); }

// The unit of a block's gradients, times the 2^40 that fromFixedPoint takes out.
fn unitAt(block: u32) -> f32 { return powerOfTwo(gridExponent(gridByteAt(block)) + FIXED_POINT_EXPONENT); }

// rule (b): products with powers of two
fn gradientAt(i: u32, unit: f32) -> vec4f { return fromFixedPoint(low[i], highAt(i)) * unit; }

fn clearSums(i: u32) {
  low[i] = vec4u();
  clearHigh(i);
}

fn putSquares(chunk: u32, sum: f32) { squares[chunk].x = sum; }
