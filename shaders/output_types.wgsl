//! import fixed_point
//! import f16_range
//! import unit
// Types of what products store (epilogue.wgsl). c (`f16C`), geluOutput (`f16Gelu`) and gradient (`f16Gradient`) may be
// float16.

override N: u32;

alias ValueC = f32;  //! f16C: alias ValueC = f16;
alias ValueGelu = f32;  //! f16Gelu: alias ValueGelu = f16;
alias ValueGradient = f32;  //! f16Gradient: alias ValueGradient = f16;
fn toC(v: f32) -> f32 { return v; }  //! f16C: fn toC(v: f32) -> f16 { return f16(f16Range(v)); }
fn toGelu(v: f32) -> f32 { return v; }  //! f16Gelu: fn toGelu(v: f32) -> f16 { return f16(f16Range(v)); }
