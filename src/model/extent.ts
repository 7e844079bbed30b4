/** Sizes of a dispatch (shaders/extent.wgsl). They are no constants of the pipeline, so that graphs share pipelines. */
export interface Extent {
  /**
   * In a matrix product the rows of C. Elsewhere rows of activations: those of one micro-batch where the kernel reads `stack`,
   * else those of the whole stack.
   */
  readonly rows: number;
  /** Micro-batches or products whose rows lie one below another. Default 1. */
  readonly stack?: number;
  /** Whether the first of them adds to the sums; else it overwrites them. The others add. Default true. */
  readonly accumulate?: boolean;
  /** Rows of tiles in a swizzle band (shaders/matmul_operands.wgsl). Default 1. */
  readonly swizzleRows?: number;
}

/** The `uniforms` of a dispatch with this extent. */
export function extentUniform({ rows, stack = 1, accumulate = true, swizzleRows = 1 }: Extent): {
  extent: readonly number[];
} {
  return { extent: [rows, stack, Number(accumulate), swizzleRows] };
}
