import { describe, expect, test } from 'vitest';
import { benchShape } from '../../src/bench/shape.js';
import { productParameters } from '../../src/bench/train.js';
import { memoryBudget } from '../../src/model/activations.js';
import { parameterCount } from '../../src/model/parameters.js';
import { defaultPlan } from '../../src/model/plan.js';
import { lantrain } from '../cli/run.js';
import { slowTest } from '../slow.js';
import { sampled } from '../thorough.js';

const SMALL = { layers: 1, heads: 2, width: 32, context: 16, batch: 4, microBatch: 2 };
const SMALL_ARGS = Object.entries(SMALL).flatMap(([name, value]) => [
  name === 'microBatch' ? '--micro-batch' : `--${name}`,
  String(value),
]);

describe('bench train', () => {
  test('bench train prints one JSON line whose figures agree with one another', async () => {
    const { code, stdout } = await lantrain(['bench', 'train', ...SMALL_ARGS, '--steps', '3', '--json']);
    expect(code).toBe(0);
    expect(stdout.trim().split('\n')).toHaveLength(1);
    const line = JSON.parse(stdout);
    expect(Object.keys(line).join()).toBe(
      'event,parameters,stepMs,tokensPerSecond,modelGflops,ceilingGflops,ceilingShare,peakBytes,dispatches,hostMs',
    );
    const { model, shape } = benchShape('tiny', SMALL);
    const tokens = SMALL.batch * SMALL.context;
    expect(line.event).toBe('bench');
    expect(line.parameters).toBe(parameterCount(model));
    expect(line.stepMs).toBeGreaterThan(0);
    expect(line.tokensPerSecond / ((1000 * tokens) / line.stepMs)).toBeCloseTo(1, 2);
    expect(line.modelGflops).toBeCloseTo((6 * productParameters(model) * tokens) / line.stepMs / 1e6, 2);
    expect(line.ceilingGflops).toBeGreaterThan(0.5);
    expect(line.ceilingShare).toBeCloseTo(line.modelGflops / line.ceilingGflops, 3);
    expect(line.hostMs).toBeLessThan(2 * line.stepMs);
    // Two micro-batches at once, a norm and an update.
    expect(line.dispatches).toBeGreaterThan(20);
    const plan = defaultPlan({ name: '', vendor: '', architecture: '', driver: '', software: true, subgroupSize: 8 });
    const { stateBytes, activationBytes } = memoryBudget(model, { ...shape, stack: 2 }, plan);
    expect(line.peakBytes).toBeGreaterThan(stateBytes + activationBytes);
    expect(line.peakBytes).toBeLessThan(1.1 * (stateBytes + activationBytes));
  });

  test('bench train counts the matrices of linear layers and the head, tied or not, as work', () => {
    const perLayer = 768 * (3 * 768 + 768 + 4 * 768 + 4 * 768);
    const expected = 12 * perLayer + 50257 * 768;
    expect(productParameters(benchShape('verdict').model)).toBe(expected);
    expect(productParameters(benchShape('gpt2').model)).toBe(expected);
  });

  test('bench train takes the micro-batch that train takes', () => {
    expect(benchShape('verdict', { batch: 2 }).shape.batch).toBe(1);
    expect(benchShape('tiny', { batch: 5 }).shape.batch).toBe(1);
    expect(benchShape('tiny', { batch: 6, microBatch: 3 }).shape.batch).toBe(3);
  });
});

describe('bench kernels', () => {
  slowTest('bench kernels prints one JSON line a kernel, the shares of a step adding up', async () => {
    const { code, stdout, events } = await lantrain(['bench', 'kernels', ...SMALL_ARGS, '--steps', '2', '--json']);
    expect(code).toBe(0);
    expect(events).toHaveLength(stdout.trim().split('\n').length);
    const kernels = events.map((e) => String(e.kernel));
    for (const name of ['attention.forward', 'layernorm.backward', 'adamw.update']) expect(kernels).toContain(name);
    // Matrix products have one line for each size.
    expect(kernels.filter((k) => k.startsWith('linear weight gradient')).length).toBeGreaterThan(1);
    expect(kernels.some((k) => k.startsWith('head weight gradient'))).toBe(true);
    expect(events.reduce((sum, e) => sum + Number(e.stepShare), 0)).toBeCloseTo(1, 1);
    expect(events.find((e) => e.kernel === 'adamw.update')?.count).toBe(1);
    // One for each layer, for both micro-batches at once or for each.
    const launches = (all: typeof events) => all.find((e) => e.kernel === 'attention.forward')?.count;
    expect(launches(events)).toBe(1);
    const single = await lantrain(['bench', 'kernels', ...SMALL_ARGS, '--stack', '1', '--steps', '1', '--json']);
    expect(launches(single.events)).toBe(2);
  });
});

describe('bench', () => {
  test('bench refuses what it does not know', async () => {
    const wrong = [
      [['bench', 'kernel'], /did you mean kernels/],
      [['bench', 'train', '--preset', 'verdikt'], /did you mean verdict/],
      [['bench', 'train', '--batch', '3', '--micro-batch', '2'], /not divisible/],
      [
        ['bench', 'train', '--batch', '8', '--micro-batch', '2', '--stack', '3'],
        /--stack 3.*4 micro-batches.*: 1, 2, 4/,
      ],
      [['bench', 'train', '--steps', '0'], /at least 1/],
      [['bench', 'train', '--plan', 'nowhere.json'], /LT_USAGE_OPTION.*nowhere\.json.*no such file/],
      [['bench', 'kernels', '--plan', 'package.json'], /LT_USAGE_OPTION.*package\.json.*version/],
    ] as const;
    for (const [args, message] of sampled(wrong, 3)) {
      const { code, stderr, stdout } = await lantrain(args);
      expect(code).toBe(2);
      expect(stderr).toMatch(message);
      expect(stdout).toBe('');
    }
  });
});
