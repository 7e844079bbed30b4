import { expect, test } from 'vitest';
import { ClusterBackend, type ClusterSettings } from '../../cluster/cluster-backend.js';
import { benchShape, describeShape } from '../../src/bench/shape.js';
import type { AdapterDescription } from '../../src/gpu/device.js';
import { memoryBudget } from '../../src/model/activations.js';
import { ParameterLayout } from '../../src/model/layout.js';
import { defaultPlan } from '../../src/model/plan.js';
import { formatBytes } from '../../src/report/format.js';
import { headerLines } from '../../src/run/header.js';
import type { TrainingJob } from '../../src/run/prepare.js';
import { settingsOf } from '../../src/run/run-facts.js';

const adapter: AdapterDescription = {
  name: 'a',
  vendor: '',
  architecture: '',
  driver: 'd',
  software: true,
  subgroupSize: 8,
};
const plan = defaultPlan(adapter);
const layout = new ParameterLayout(benchShape('tiny').model, plan);
const backend = new ClusterBackend({} as ClusterSettings);

function job(wire: 'exact' | 'low'): TrainingJob {
  const { model, options, shape } = benchShape('tiny', { wire });
  const data = { hash: 'h', description: 'd' };
  const config = { version: '0', model, options, plan, data, adapter: 'a', totalSteps: 10, stepsPerEpoch: 10 };
  return { config, plan, shape, gpu: { adapter }, budget: memoryBudget(model, shape, plan) } as TrainingJob;
}

test('the lines before a run, its settings and benchmarks say that its wire is low, and nothing of the exact one', () => {
  const [exact, low] = [headerLines(job('exact')), headerLines(job('low'))];
  expect(low[2]).toBe(`${exact[2]}, low wire`);
  expect(settingsOf(job('low').config).filter(([name]) => name === 'Wire')).toEqual([['Wire', 'low']]);
  expect(settingsOf(job('exact').config).filter(([name]) => name === 'Wire')).toEqual([]);
  expect(describeShape(benchShape('tiny', { wire: 'low' }))).toBe(`${describeShape(benchShape('tiny'))}, low wire`);
});

test('the lines before a run count the copy of the state with master weights in the low wire', () => {
  const host = (wire: 'exact' | 'low') => headerLines(job(wire))[5];
  expect(host('exact')).toContain(`copy for checkpoints ${formatBytes(12 * layout.allocatedValues)}`);
  expect(host('low')).toContain(`copy for checkpoints ${formatBytes(16 * layout.allocatedValues)}`);
});

test("updates take half a byte a parameter and the grid of a coordinator's memory in the low wire", () => {
  const updates = (wire: 'exact' | 'low') => backend.hostMemory(layout, wire).updates / layout.allocatedValues;
  expect(updates('low')).toBeCloseTo(1 / 2 + 1 / 64 + 1 / 256, 3);
  expect(updates('exact')).toBeGreaterThan(4);
});
