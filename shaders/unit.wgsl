// Gradients that carry a loss scale, a power of two, lose it before they are rounded to fixed point; exactly, as far as the
// grid can tell.

fn inUnits(v: f32) -> f32 { return v; }  //! scaled: @group(0) @binding(15) var<uniform> gradientUnit: f32; fn inUnits(v: f32) -> f32 { return v * gradientUnit; }
