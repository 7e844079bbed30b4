// Takes the loss scale, a power of two, out of a gradient before it is rounded to fixed point. That is exact for all that
// fixed point keeps.

fn inUnits(v: f32) -> f32 { return v; }  //! scaled: @group(0) @binding(15) var<uniform> gradientUnit: f32; fn inUnits(v: f32) -> f32 { return v * gradientUnit; }
