// The arithmetic that the adapter gives: its compiler may fuse, reorder and flush as WGSL allows. See arithmetic.wgsl.

fn keep(v: f32) -> f32 { return v; }
fn keep4(v: vec4f) -> vec4f { return v; }
fn settle(v: f32) -> f32 { return v; }
fn settle4(v: vec4f) -> vec4f { return v; }
fn rounded(v: f32) -> f32 { return v; }
fn rounded4(v: vec4f) -> vec4f { return v; }

fn quotient4(a: vec4f, b: vec4f) -> vec4f { return a / b; }
fn squareRoot4(x: vec4f) -> vec4f { return sqrt(x); }
fn inverseSquareRoot(x: f32) -> f32 { return inverseSqrt(x); }
