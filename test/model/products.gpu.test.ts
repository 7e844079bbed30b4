import { beforeAll, expect, test, vi } from 'vitest';
import { DispatchList } from '../../src/gpu/list.js';
import { Gpt } from '../../src/model/gpt.js';
import { ParameterArena, ParameterLayout } from '../../src/model/layout.js';
import { rowsOf } from '../../src/model/matmul-kernels.js';
import { always } from '../../src/model/matmul-plan.js';
import { defaultPlan, type Plan } from '../../src/model/plan.js';
import { trainingProducts } from '../../src/model/products.js';
import { ExactSums } from '../../src/model/sums.js';
import { matmulClasses } from '../../src/run/matmul-contest.js';
import { GpuHarness } from '../gpu/harness.js';

let harness: GpuHarness;
beforeAll(async () => {
  harness = await GpuHarness.open();
});

const LAYOUTS = ['NN', 'NT', 'TN'];

/** How often each product is computed. */
function counted(products: readonly (readonly [product: string, count: number])[]): [string, number][] {
  const counts = new Map<string, number>();
  for (const [product, count] of products) counts.set(product, (counts.get(product) ?? 0) + count);
  return [...counts].sort();
}

const words = (...parts: readonly unknown[]) => parts.join(' ');

/** Windows of the head and chunks of its rows, more than one of each. */
const CUT: Partial<Plan> = { windowValues: 8192, logitsValues: 64 * 704 };

test.each([
  ['tied', false, 1, {}],
  ['tied', true, 1, CUT],
  ['tied', false, 2, {}],
  ['untied', false, 1, CUT],
  ['untied', true, 1, {}],
  ['untied', true, 3, { windowValues: 3 * 96 * 704 }],
] as const)(
  'the products that are tuned are those that the graph launches: %s, recompute %s, %d at once',
  async (tie, recompute, stack, cut) => {
    const config = { vocabSize: 701, context: 24, width: 16, layers: 3, heads: 2, tie: tie === 'tied', qkvBias: true };
    const shape = { batch: 4, context: 24, dropout: 0.1, recompute, stack };
    // A kernel that makes no copies of operands.
    const plan = { ...defaultPlan(harness.gpu.adapter), matmul: always('plain'), ...cut };
    const layout = new ParameterLayout(config, plan);
    const weights = await ParameterArena.allocate(harness.gpu, layout, 'weights');
    const sums = await ExactSums.allocate(harness.gpu, layout);
    const add = vi.spyOn(DispatchList.prototype, 'add');
    const gpt = await Gpt.build(harness.kernels, shape, plan, weights, sums);
    const launched = add.mock.calls
      .filter((_, i) => add.mock.contexts[i] === gpt.gradientList({ stack, accumulate: false }))
      .flatMap(([{ shader, entry, label, constants: c, uniforms }]) =>
        shader.startsWith('matmul') && uniforms
          ? [
              words(
                label,
                LAYOUTS[Number(c.LAYOUT)],
                uniforms.extent[0],
                c.N,
                c.K,
                uniforms.extent[1],
                c.LDA,
                c.LDB,
                c.LDC,
                entry === 'fixed' ? 'fixed' : 'store',
              ),
            ]
          : [],
      );
    add.mockRestore();
    const said = trainingProducts(config, shape, plan).map((p) => {
      const isFixed = p.output === 'fixed';
      const atOnce = isFixed ? (p.stack ?? 1) : 1;
      const launch = [p.label, p.layout, rowsOf(p), p.n, p.k, atOnce, p.lda, p.ldb, p.ldc, p.output];
      return [words(...launch), p.count] as const;
    });
    expect(launched.length).toBeGreaterThan(36);
    expect(counted(said)).toEqual(counted(launched.map((product) => [product, 1])));
  },
);

test('The products of a model are contested in one order, whatever the order in which a graph launches them', () => {
  // At this width, the products of both feed-forward maps are equally large and in different classes.
  const config = { vocabSize: 701, context: 24, width: 640, layers: 3, heads: 10, tie: true, qkvBias: true };
  const plan = defaultPlan(harness.gpu.adapter);
  const contested = (changes: object) =>
    matmulClasses(trainingProducts(config, { batch: 4, context: 24, dropout: 0, ...changes }, plan));
  const order = [
    'linear NN 96x2560x640',
    'linear input gradient NT 96x640x2560',
    'linear weight gradient TN 640x2560x96',
    'linear NN 96x640x2560',
    'linear input gradient NT 96x2560x640',
    'linear weight gradient TN 2560x640x96',
    'linear NN 96x1920x640',
    'linear input gradient NT 96x640x1920',
    'linear weight gradient TN 640x1920x96',
    'linear NN 96x640x640',
    'linear input gradient NT 96x640x640',
    'linear weight gradient TN 640x640x96',
  ];
  for (const changes of [{}, { stack: 4 }])
    expect(contested(changes).map(({ label, layout, m, n, k }) => `${label} ${layout} ${m}x${n}x${k}`)).toEqual(order);
});
