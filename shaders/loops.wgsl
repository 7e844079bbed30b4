// Software drivers write loops of few known rounds out, which gains them nothing and takes seconds to compile. There `rounds`
// hides how many they are, or where they end: `some` is 1 or more, which the compiler does not know if it is a number of
// workgroups or of an extent. (A minimum would not do: a compiler knows that one is at most `count`, and writes out as many.)
// On GPUs it is `count`, and compilers do what they think best.

// Set for every kernel that has it (src/gpu/kernel.ts).
override KEEP_LOOPS = false;

fn rounds(count: u32, some: u32) -> u32 {
  if (KEEP_LOOPS) { return select(0u, count, some > 0u); }
  return count;
}
