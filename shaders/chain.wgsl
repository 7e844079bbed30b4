//! import arithmetic
// A chain: a sum of products, added one after another. In portable arithmetic both factors are rounded to 12 bits, so that a
// product is exact, fused with its addition or not.

// Protects each addition from being reordered: the same bits, slower, for adapters whose compilers reorder sums.
override KEEP_SUMS = false;

// rule (c): exact products
fn plusProduct(sum: f32, x: f32, y: f32) -> f32 {
  if (KEEP_SUMS) { return keep(sum + x * y); }
  return sum + x * y;
}

// rule (c): exact products
fn plusProduct4(sum: vec4f, x: f32, y: vec4f) -> vec4f {
  if (KEEP_SUMS) { return keep4(sum + x * y); }
  return sum + x * y;
}
