/** How much a dispatch computes: shaders/extent.wgsl. Numbers of the dispatch, so that pipelines serve all graphs. */
export interface Extent {
  /** Of a product's C; of activations, those of one micro-batch where the kernel knows of stacks, else all. */
  readonly rows: number;
  /** Micro-batches or products whose rows lie one below another. Default 1. */
  readonly stack?: number;
  /** Whether the first of them adds to the sums or overwrites them. Default true. */
  readonly accumulate?: boolean;
  /** Of tiles (shaders/matmul_operands.wgsl). Default 1. */
  readonly swizzleRows?: number;
}

/** The `uniforms` of a dispatch with this extent. */
export function extentUniform({ rows, stack = 1, accumulate = true, swizzleRows = 1 }: Extent): {
  extent: readonly number[];
} {
  return { extent: [rows, stack, Number(accumulate), swizzleRows] };
}
