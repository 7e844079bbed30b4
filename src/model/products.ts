import { paperView } from '../gpu/view.js';
import { Buffers, samplingBuffers, trainingBuffers } from './buffers.js';
import type { ModelConfig } from './config.js';
import { keysBytes } from './dropout.js';
import { Graph } from './graph.js';
import { ParameterArena, ParameterLayout } from './layout.js';
import type { MatmulArguments } from './matmul.js';
import type { ProductShape } from './matmul-kernels.js';
import { scratchValues, variantFor } from './matmul-plan.js';
import type { Plan } from './plan.js';
import type { BatchShape } from './shape.js';
import { addGradient, decode } from './spine.js';

/*
 * The matrix products of a graph, for tuning and for the size of the scratch. The spine is recorded without a device: its
 * views have no buffers, and only the products are kept of what its operations launch.
 */

/** A matrix product of a graph. */
export interface Product extends ProductShape {
  readonly label: string;
  readonly lda: number;
  readonly ldb: number;
  readonly ldc: number;
  /** How often one stack of micro-batches computes it. */
  readonly count: number;
}

/**
 * Every distinct matrix product of a stack of micro-batches, forward and backward. Products of one matrix are neighbours,
 * and matrices are in the order of the forward pass. Contests are held in this order.
 */
export function trainingProducts(config: ModelConfig, shape: BatchShape, plan: Plan): Product[] {
  return recorded(config, plan, shape.precision === 'portable', (graph) =>
    addGradient(graph, {
      shape: { ...shape, stack: shape.stack ?? 1 },
      buffers: Buffers.onPaper(trainingBuffers(config, shape, plan, 0)),
      keys: paperView(keysBytes(config) / 4),
      scale: paperView(1),
    }),
  );
}

/** The most values of scratch that one of the products needs, for split-K or copies of operands. */
export function scratchOf(products: readonly ProductShape[], plan: Plan): number {
  return products.reduce((values, p) => Math.max(values, scratchValues(variantFor(plan.matmul, p), p)), 0);
}

/** `scratchOf` the products of a stack of micro-batches. */
export function trainingScratch(config: ModelConfig, shape: BatchShape, plan: Plan): number {
  return scratchOf(trainingProducts(config, shape, plan), plan);
}

/** `scratchOf` the products of sampling, which have one row. */
export function samplingScratch(config: ModelConfig, plan: Plan, portable: boolean): number {
  const products = recorded(config, plan, portable, (graph) =>
    decode(graph, Buffers.onPaper(samplingBuffers(config, 0))),
  );
  return scratchOf(products, plan);
}

function recorded(config: ModelConfig, plan: Plan, portable: boolean, addSpine: (graph: Graph) => void): Product[] {
  const launched: MatmulArguments[] = [];
  const weights = ParameterArena.onPaper(new ParameterLayout(config, plan));
  const word = paperView(1);
  const sums = { low: weights, high: weights, loss: paperView(2), lossStatus: word, status: () => word };
  const matmul = (product: MatmulArguments) => void launched.push({ ...product, portable });
  const launches = { portable, add: () => undefined, matmul };
  addSpine(new Graph(launches, { plan, weights, sums }));
  return counted(byMatrix(launched));
}

/** The products grouped by matrix. Matrices that have the same role in different layers count as one. */
function byMatrix(launched: readonly MatmulArguments[]): MatmulArguments[] {
  const matrices = new Map<string | undefined, MatmulArguments[]>();
  for (const product of launched) {
    const matrix = product.matrix?.replace(/^h\.\d+\./, '');
    const known = matrices.get(matrix);
    if (known) known.push(product);
    else matrices.set(matrix, [product]);
  }
  return [...matrices.values()].flat();
}

function counted(launched: readonly MatmulArguments[]): Product[] {
  const products = new Map<string, Product>();
  for (const { layout, m, n, k, stack, lda, ldb, output, portable, label = 'matmul' } of launched) {
    const one = { label, layout, m, n, k, output: output.kind, stack, portable, lda, ldb, ldc: output.ldc };
    const key = Object.values(one).join();
    products.set(key, { ...one, count: 1 + (products.get(key)?.count ?? 0) });
  }
  return [...products.values()];
}
