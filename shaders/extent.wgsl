// How much a kernel computes, where that is a number of the dispatch and not of the pipeline: Dawn compiles a pipeline for
// every set of constants, some 50 ms each, and graphs of one model differ in little else. What inner loops need, widths and
// leading dimensions, stays an override.

struct Extent {
  rows: u32,   // of a product C; of activations, those of one micro-batch where the kernel knows of stacks, else all
  stack: u32,  // so many micro-batches or products, whose rows lie one below another; 1 or more
  accumulate: u32,  // 0: the first of them overwrites the sums; 1: it adds to them
  swizzleRows: u32,  // matmul_operands.wgsl
}

@group(0) @binding(14) var<uniform> extent: Extent;
