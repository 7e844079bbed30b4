//! import fixed_point
//! import half_range
//! import unit
// Types of what products write, C[M, N] (epilogue.wgsl). What backward and other products read may be float16: c (`halfC`),
// geluOutput (`halfGelu`), gradient (`halfGradient`).

override N: u32;

alias ValueC = f32;  //! halfC: alias ValueC = f16;
alias ValueGelu = f32;  //! halfGelu: alias ValueGelu = f16;
alias ValueGradient = f32;  //! halfGradient: alias ValueGradient = f16;
fn toC(v: f32) -> f32 { return v; }  //! halfC: fn toC(v: f32) -> f16 { return f16(halfRange(v)); }
fn toGelu(v: f32) -> f32 { return v; }  //! halfGelu: fn toGelu(v: f32) -> f16 { return f16(halfRange(v)); }
