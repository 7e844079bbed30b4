// Sizes that belong to the dispatch and not to the pipeline. Dawn compiles a pipeline for every set of constants, some 50 ms
// each, and the graphs of one model differ in little but these sizes. Widths and leading dimensions, which inner loops need,
// stay overrides.

struct Extent {
  // In a matrix product the rows of C. Elsewhere rows of activations: those of one micro-batch where the kernel reads `stack`,
  // else those of the whole stack.
  rows: u32,
  stack: u32,  // number of micro-batches or products whose rows lie one below another; 1 or more
  accumulate: u32,  // 0: the first of them overwrites the sums; 1: it adds to them
  swizzleRows: u32,  // matmul_operands.wgsl
}

@group(0) @binding(14) var<uniform> extent: Extent;
