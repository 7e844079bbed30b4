//! import arithmetic
//! import fixed_point
//! import f16_range
//! import unit
// Types of what products store (epilogue.wgsl). c (`f16C`), geluOutput (`f16Gelu`) and gradient (`f16Gradient`) may be
// float16. In portable arithmetic geluOutput is rounded to 12 bits, and c where it is an operand only (`roundC`).

override N: u32;

alias ValueC = f32;  //! f16C: alias ValueC = f16;
alias ValueGelu = f32;  //! f16Gelu: alias ValueGelu = f16;
alias ValueGradient = f32;  //! f16Gradient: alias ValueGradient = f16;
fn storedC(v: f32) -> f32 { return settle(v); }  //! roundC: fn storedC(v: f32) -> f32 { return rounded(v); }
fn toC(v: f32) -> f32 { return storedC(v); }  //! f16C: fn toC(v: f32) -> f16 { return f16(f16Range(v)); }
fn toGelu(v: f32) -> f32 { return rounded(v); }  //! f16Gelu: fn toGelu(v: f32) -> f16 { return f16(f16Range(v)); }
