import { describe, expect, test } from 'vitest';
import { benchShape } from '../../src/bench/shape.js';
import type { MemoryBudget } from '../../src/model/activations.js';
import { memoryBudget } from '../../src/model/activations.js';
import { always, type MatmulVariant } from '../../src/model/matmul-plan.js';
import { defaultPlan, type Plan } from '../../src/model/plan.js';
import { chooseStack, MOST_ROWS, possibleStacks } from '../../src/model/stack.js';
import type { TrainOptions } from '../../src/train/options.js';
import type { PresetName } from '../../src/train/presets.js';

const SOFTWARE = { name: '', vendor: '', architecture: '', driver: '', software: true, subgroupSize: 8 };
const HARDWARE = { ...SOFTWARE, software: false, subgroupSize: undefined };

function chosen(
  preset: PresetName,
  adapter: typeof SOFTWARE | typeof HARDWARE,
  changes: Partial<TrainOptions> = {},
  fits: (budget: MemoryBudget) => boolean = () => true,
): number {
  const { model, shape, options } = benchShape(preset, { precision: 'f32', ...changes });
  const count = options.batch / options.microBatch;
  return chooseStack(model, shape, defaultPlan(adapter), count, adapter, fits);
}

describe('the stack that is chosen', () => {
  test('the chosen stack is as large as pays on this kind of adapter', () => {
    expect(chosen('tiny', SOFTWARE, { batch: 16 })).toBe(8);
    expect(chosen('tiny', SOFTWARE, { batch: 64 })).toBe(8);
    expect(chosen('tiny', HARDWARE, { batch: 64 })).toBe(32);
    expect(chosen('verdict', SOFTWARE)).toBe(2);
    expect(chosen('verdict', SOFTWARE, { batch: 8, context: 128 })).toBe(4);
    expect(chosen('gpt2', SOFTWARE)).toBe(1);
  });

  test('the chosen stack divides the micro-batches of a step', () => {
    expect(chosen('verdict', SOFTWARE, { batch: 6 })).toBe(3);
    expect(chosen('verdict', SOFTWARE, { batch: 7 })).toBe(1);
  });

  test('the chosen stack takes no more memory than half a gigabyte on top, nor than there is', () => {
    // A sequence of 1,024 tokens takes 0.66 GB, or 0.14 GB with recomputation.
    expect(chosen('gpt2', HARDWARE)).toBe(1);
    expect(chosen('gpt2', HARDWARE, { recompute: true })).toBe(4);
    const { model, shape } = benchShape('tiny', { precision: 'f32', batch: 16 });
    const plan = defaultPlan(SOFTWARE);
    const four = memoryBudget(model, { ...shape, stack: 4 }, plan).totalBytes;
    expect(chosen('tiny', SOFTWARE, { batch: 16 }, ({ totalBytes }) => totalBytes <= four)).toBe(4);
    expect(chosen('tiny', SOFTWARE, { batch: 16 }, ({ totalBytes }) => totalBytes < four)).toBe(2);
    expect(chosen('tiny', SOFTWARE, { batch: 16 }, () => false)).toBe(1);
  });
});

describe('the stacks that are possible', () => {
  const { model, shape } = benchShape('tiny', { precision: 'f32', batch: 16 });
  const possible = (changes: Partial<Plan>, count: number, batch = shape.batch, context = shape.context) =>
    possibleStacks(model, { ...shape, batch, context }, { ...defaultPlan(SOFTWARE), ...changes }, count);

  test('the possible stacks divide the step, and are one where a kernel splits K of weight gradients', () => {
    expect(possible({}, 12)).toEqual([12, 6, 4, 3, 2, 1]);
    expect(possible({ matmul: [['*', 'tile64x64/kfit']] }, 12)).toEqual([12, 6, 4, 3, 2, 1]);
    expect(
      possible(
        {
          matmul: [
            ['TN *x*x* *', 'tile64x64/k2'],
            ['*', 'tile64x64'],
          ],
        },
        12,
      ),
    ).toEqual([1]);
  });

  test('the possible stacks leave room for the parts of all products of a stack in a binding', () => {
    const gpt2 = benchShape('gpt2', { precision: 'f32' });
    const stacks = (variant: MatmulVariant) =>
      possibleStacks(
        gpt2.model,
        { ...gpt2.shape, context: 256 },
        { ...defaultPlan(SOFTWARE), matmul: always(variant) },
        32,
      );
    expect(stacks('tile64x64')).toEqual([32, 16, 8, 4, 2, 1]);
    expect(stacks('tile64x64/kfit')).toEqual([16, 8, 4, 2, 1]);
  });

  test('the possible stacks stay within rows of workgroups and within a binding', () => {
    expect(MOST_ROWS).toBeLessThan(1024 * 64);
    expect(possible({}, 1024, 1, 64)).not.toContain(1024);
    expect(possible({}, 1024, 1, 64)).toContain(512);
    // The widest activations, of 128 rows.
    expect(possible({ windowValues: 4 * 4 * 128 * 128 }, 12)).toEqual([4, 3, 2, 1]);
  });

  test('the possible stacks are one where the head works in chunks that do not begin on aligned rows', () => {
    expect(possible({ logitsValues: 64 * 256 }, 4, 2, 64)).toEqual([4, 2, 1]);
    expect(possible({ logitsValues: 64 * 256 }, 4, 2, 50)).toEqual([1]);
  });
});
