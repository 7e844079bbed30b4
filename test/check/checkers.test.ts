import { describe, expect, test } from 'vitest';
import { CHECKERS } from '../../src/check/checkers.js';
import { composeShader } from '../../src/gpu/kernel.js';
import type { Dispatch } from '../../src/gpu/list.js';
import { paperView } from '../../src/gpu/view.js';
import { ATTENTION_VARIANTS } from '../../src/model/attention.js';
import { Buffers, trainingBuffers } from '../../src/model/buffers.js';
import type { ModelConfig } from '../../src/model/config.js';
import { keysBytes } from '../../src/model/dropout.js';
import { Graph, launchInto } from '../../src/model/graph.js';
import { ParameterArena, ParameterLayout } from '../../src/model/layout.js';
import { MATMUL_KERNELS } from '../../src/model/matmul-kernels.js';
import { always, isMatmulVariant, type MatmulVariant } from '../../src/model/matmul-plan.js';
import { defaultPlan, type Plan, withKeptSums } from '../../src/model/plan.js';
import { trainingScratch } from '../../src/model/products.js';
import type { BatchShape } from '../../src/model/shape.js';
import { addGradient, addLoss } from '../../src/model/spine.js';
import { loadShaders } from '../../src/node/shaders.js';

const GPU_LIKE = { name: '', vendor: '', architecture: '', driver: '', software: false, subgroupSize: undefined };
const MODEL: ModelConfig = {
  vocabSize: 600,
  context: 64,
  width: 512,
  layers: 2,
  heads: 8,
  tie: false,
  qkvBias: true,
};

/** The dispatches of training and evaluation, without a device. */
function launched(model: ModelConfig, shape: BatchShape, plan: Plan): Dispatch[] {
  const dispatches: Dispatch[] = [];
  const weights = ParameterArena.onPaper(new ParameterLayout(model, plan));
  const word = paperView(1);
  const sums = { low: weights, high: weights, loss: paperView(2), lossStatus: word, status: () => word };
  const buffers = Buffers.onPaper(trainingBuffers(model, shape, plan, trainingScratch(model, shape, plan)));
  const launches = launchInto({ add: (dispatch) => void dispatches.push(dispatch) }, plan, true, buffers.scratch);
  const graph = new Graph(launches, { plan, weights, sums });
  const views = {
    shape: { ...shape, stack: shape.stack ?? 1 },
    buffers,
    keys: paperView(keysBytes(model) / 4),
    scale: paperView(1),
  };
  addGradient(graph, views);
  addLoss(graph, views);
  return dispatches;
}

const VARIANTS = Object.keys(MATMUL_KERNELS).flatMap((name) =>
  [name, `${name}/k4`].filter(isMatmulVariant),
) as MatmulVariant[];

describe('every kernel of portable training has a check', () => {
  test.each(VARIANTS)('in graphs with matrix products by %s', (variant) => {
    const base = { ...defaultPlan(GPU_LIKE), matmul: always(variant) };
    const kernels = new Set<string>();
    for (const dropout of [0, 0.1])
      for (const tie of [true, false])
        for (const attention of ATTENTION_VARIANTS)
          for (const plan of [
            { ...base, attention },
            { ...withKeptSums({ ...base, attention }), rowLanes: 1, logitsValues: 2 ** 16 },
          ]) {
            const shape = { batch: 2, context: 64, dropout, precision: 'portable' as const, recompute: tie, stack: 1 };
            for (const { shader, entry, defines } of launched({ ...MODEL, tie }, shape, plan)) {
              expect(defines).toContain('portable');
              kernels.add(`${shader}.${entry}`);
            }
          }
    const without = [...kernels].filter((kernel) => {
      const [shader, entry] = kernel.split('.');
      return CHECKERS[shader]?.[entry] === undefined;
    });
    expect(without).toEqual([]);
    expect(kernels.size).toBeGreaterThan(20);
  });

  test('and so has every entry of a shader with portable arithmetic; sampling is left out, on which no state depends', () => {
    const texts = loadShaders();
    const kernels = Object.keys(texts)
      .filter((name) => name !== 'decode')
      .flatMap((name) => {
        const text = composeShader(texts, name, ['portable']);
        if (!text.includes('portableZero')) return [];
        return [...text.matchAll(/@compute[^{]*?\bfn (\w+)/g)].map(([, entry]) => [name, entry]);
      });
    expect(kernels.length).toBeGreaterThan(25);
    expect(kernels.filter(([shader, entry]) => CHECKERS[shader]?.[entry] === undefined)).toEqual([]);
  });
});
