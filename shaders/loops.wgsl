// Software drivers unroll loops of few known rounds. That gains nothing and takes seconds to compile. There, `rounds` returns
// `count` in a form that the compiler does not know: `some` is always 1 or more, but it is a number of workgroups or of an
// extent. (A minimum would not do: a compiler knows that it is at most `count`, and unrolls that many.) On GPUs `rounds` is
// plainly `count`, and compilers unroll as they like.

// KernelCache (src/gpu/kernel.ts) sets it for every kernel that declares it.
override KEEP_LOOPS = false;

fn rounds(count: u32, some: u32) -> u32 {
  if (KEEP_LOOPS) { return select(0u, count, some > 0u); }
  return count;
}
