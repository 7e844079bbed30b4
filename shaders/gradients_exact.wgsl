// Gradients as float32, from their sums in fixed point, and where the sums of squares go. gradients_low.wgsl has the same
// functions. low, high [n]; squares: one value for each chunk.
//! import fixed_point

@group(0) @binding(3) var<storage, read_write> low: array<vec4u>;
@group(0) @binding(4) var<storage, read_write> high: array<vec4u>;
@group(0) @binding(7) var<storage, read_write> squares: array<f32>;

fn unitAt(_block: u32) -> f32 { return 1.0; }

fn gradientAt(i: u32, _unit: f32) -> vec4f { return fromFixedPoint(low[i], high[i]); }

fn clearSums(i: u32) {
  low[i] = vec4u();
  high[i] = vec4u();
}

fn putSquares(chunk: u32, sum: f32) { squares[chunk] = sum; }
