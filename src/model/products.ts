import type { ModelConfig } from './config.js';
import { ParameterLayout } from './layout.js';
import { type ProductShape, scratchValues, variantFor } from './matmul-plan.js';
import type { Plan } from './plan.js';
import { type BatchShape, headPasses, logitsStride } from './shape.js';

/** A matrix product of a graph. */
export interface Product extends ProductShape {
  readonly label: string;
  readonly lda: number;
  readonly ldb: number;
  readonly ldc: number;
  /** How often a stack of micro-batches computes it. */
  readonly count: number;
}

/** The shapes [K, N] of a layer's linear maps. */
function linearShapes({ width: C }: ModelConfig): [number, number][] {
  return [
    [C, 3 * C],
    [C, C],
    [C, 4 * C],
    [4 * C, C],
  ];
}

/** Every matrix product of a stack of micro-batches, forward and backward; `operations.ts` launches them. */
export function trainingProducts(config: ModelConfig, shape: BatchShape, plan: Plan): Product[] {
  const { stack = 1 } = shape;
  const rows = shape.batch * shape.context;
  const products: Product[] = [];
  const add = (label: string, p: ProductShape, count: number, ld: { a?: number; c?: number } = {}) => {
    const { layout, m, n, k } = p;
    const lda = ld.a ?? (layout === 'TN' ? m : k);
    products.push({ ...p, label, count, lda, ldb: layout === 'NT' ? k : n, ldc: ld.c ?? n });
  };
  for (const [i, [k, n]] of linearShapes(config).entries()) {
    // Computed again in backward: of all layers but the last, what comes before the last map.
    const again = shape.recompute && i < 3 ? config.layers - 1 : 0;
    add('linear', { layout: 'NN', m: rows, n, k, output: 'store', stack }, config.layers + again);
    add('linear input gradient', { layout: 'NT', m: rows, n: k, k: n, output: 'store', stack }, config.layers);
    add('linear weight gradient', { layout: 'TN', m: k, n, k: rows, output: 'grid', stack }, config.layers);
  }
  const stride = logitsStride(config);
  const C = config.width;
  for (const { rows: m, stack } of headPasses(config, shape, plan))
    for (const { rows: words } of headPieces(config, plan)) {
      add('head', { layout: 'NT', m, n: words, k: C, output: 'store', stack }, 1, { c: stride });
      add('head input gradient', { layout: 'NN', m, n: C, k: words, output: 'store', stack }, 1, { a: stride });
      add('head weight gradient', { layout: 'TN', m: words, n: C, k: m, output: 'grid', stack }, 1, { a: stride });
    }
  return products;
}

function headPieces(config: ModelConfig, plan: Plan) {
  return new ParameterLayout(config, plan).piecesOf(config.tie ? 'wte.weight' : 'lm_head.weight');
}

/** Values of scratch that products need, for parts of K or copies of operands, at most; 0 where none needs any. */
export function trainingScratch(config: ModelConfig, shape: BatchShape, plan: Plan): number {
  return most(plan, trainingProducts(config, shape, plan));
}

/** The same for sampling, a row at a time. */
export function samplingScratch(config: ModelConfig, plan: Plan): number {
  const one = { layout: 'NN', m: 1, output: 'store' } as const;
  const head = headPieces(config, plan).map(
    ({ rows }) => ({ ...one, layout: 'NT', n: rows, k: config.width }) as const,
  );
  return most(plan, [...linearShapes(config).map(([k, n]) => ({ ...one, n, k })), ...head]);
}

function most(plan: Plan, products: readonly ProductShape[]): number {
  return products.reduce((values, p) => Math.max(values, scratchValues(variantFor(plan.matmul, p), p)), 0);
}
