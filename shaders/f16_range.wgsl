// An adapter may convert a value beyond float16 to infinity or to the largest float16, which nobody would notice. So such a
// value becomes NaN first, and the NaN reaches the status of a gradient.

const LARGEST_F16 = 0x477fe000u;  // 65504, as the bits of a float32

fn f16Range(value: f32) -> f32 {
  let bits = bitcast<u32>(value);
  return select(value, bitcast<f32>(bits | 0x7fc00000u), (bits & 0x7fffffffu) > LARGEST_F16);
}

fn f16Range4(v: vec4f) -> vec4f {
  return vec4f(f16Range(v.x), f16Range(v.y), f16Range(v.z), f16Range(v.w));
}
