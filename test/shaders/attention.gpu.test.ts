import { beforeAll, describe, expect, test } from 'vitest';
import { type Dispatch, DispatchList } from '../../src/gpu/list.js';
import type { View } from '../../src/gpu/view.js';
import { ATTENTION_VARIANTS, type AttentionVariant } from '../../src/model/attention.js';
import { type AttentionShape, attention, attentionGradient } from '../../src/model/ops/attention.js';
import { deriveKey } from '../../src/util/random.js';
import { GpuHarness, noise } from '../gpu/harness.js';
import { agree } from '../reference/agree.js';
import { type ReferenceDropout, attention as referenceAttention } from '../reference/attention.js';
import { sampled } from '../thorough.js';

let harness: GpuHarness;
beforeAll(async () => {
  harness = await GpuHarness.open();
});

interface Case extends AttentionShape {
  readonly dropout?: boolean;
  /** The scale of q and k; scores are about its square. */
  readonly size?: number;
  /** The largest error allowed, relative to the largest value. */
  readonly tolerance?: number;
}

const one = (context: number, headSize: number, rest: Partial<Case> = {}): Case => ({
  batch: 1,
  heads: 1,
  context,
  headSize,
  ...rest,
});

const CASES: readonly Case[] = [
  one(1, 1),
  one(5, 3, { batch: 2, heads: 2, dropout: true }),
  one(17, 8, { heads: 3 }),
  one(33, 10, { batch: 2, heads: 2 }),
  one(40, 16, { heads: 3, dropout: true }),
  one(31, 24, { heads: 2 }),
  one(64, 32, { batch: 2, heads: 4, dropout: true }),
  one(65, 40, { heads: 2, dropout: true }),
  one(18, 48, { batch: 2, heads: 2, dropout: true }),
  one(65, 64, { batch: 2, heads: 3, dropout: true }),
  one(35, 80, { heads: 2 }),
  one(20, 96, { heads: 3, dropout: true }),
  one(34, 100, { heads: 2, dropout: true }),
  one(33, 128, { heads: 2 }),
  // Scores of about +-80: exp overflows without the running maximum, and float32 holds them to 1e-5 only.
  one(47, 32, { heads: 2, size: 6.5, tolerance: 2e-4 }),
];

const FIRST_SLOT = 7;
const RATE = 0.3;
const DROPOUT: ReferenceDropout = { key: deriveKey(5, 3, 1, 2), firstSlot: FIRST_SLOT, rate: RATE };

async function run(variant: AttentionVariant, shape: Case, qkvValues: Float32Array, gradientValues: Float32Array) {
  const { batch, context, heads, headSize } = shape;
  const rows = batch * heads * context;
  const filled = (n: number) => harness.put(new Float32Array(n).fill(Number.NaN));
  const qkv = await harness.put(qkvValues);
  const outGradient = await harness.put(gradientValues);
  const out = await filled(rows * headSize);
  const logsumexp = await filled(rows);
  const delta = await filled(rows);
  const qkvGradient = await filled(rows * headSize * 3);
  const dropout: View | undefined = shape.dropout
    ? await harness.uniform([...DROPOUT.key, FIRST_SLOT, Math.floor(RATE * 2 ** 32), { f32: 1 / (1 - RATE) }])
    : undefined;
  const list = new DispatchList();
  const graph = { add: (dispatch: Dispatch) => list.add(dispatch), plan: { attention: variant } };
  attention(graph, shape, { qkv, out, logsumexp, dropout });
  attentionGradient(graph, shape, { qkv, out, logsumexp, outGradient, delta, qkvGradient, dropout });
  await list.prepare(harness.kernels);
  list.submit(harness.gpu);
  const read = async () => [
    await harness.floats(out),
    await harness.floats(logsumexp),
    await harness.floats(qkvGradient),
  ];
  const results = await read();
  list.submit(harness.gpu);
  return { results, again: await read() };
}

/**
 * The environment variable that the case needs, if any; CI sets the first one. Cases that take ten seconds or more to compile
 * on a software adapter need one: tiles with large heads, and on SwiftShader subgroups as well.
 */
function neededFor(variant: AttentionVariant, headSize: number): 'LANTRAIN_ALL_DRIVERS' | 'LANTRAIN_SLOW' | undefined {
  const { software, subgroupSize } = harness.gpu.adapter;
  const isTile = variant === 'tile';
  if (!software || headSize <= 32 || (!isTile && subgroupSize === 8)) return undefined;
  return isTile && headSize >= 64 ? 'LANTRAIN_SLOW' : 'LANTRAIN_ALL_DRIVERS';
}

describe.each(ATTENTION_VARIANTS)('attention, %s', (variant) => {
  test.for(sampled(CASES, 6))(
    'attention agrees with float64: batch $batch, $context tokens, $heads heads of $headSize, dropout $dropout, size $size',
    async (shape, { skip }) => {
      const { adapter } = harness.gpu;
      const lanes = /^subgroup(\d+)$/.exec(variant)?.[1];
      skip(
        lanes !== undefined && Number(lanes) !== adapter.subgroupSize,
        `${adapter.name} has no subgroups of ${lanes}`,
      );
      const needed = neededFor(variant, shape.headSize);
      skip(needed !== undefined && !process.env[needed], `compiles too long on this adapter; run with ${needed}=1`);
      const { batch, context, heads, headSize, size = 1, tolerance = 1e-5 } = shape;
      const C = heads * headSize;
      const qkv = noise(batch * context * 3 * C, 1).map((x, n) => (n % (3 * C) < 2 * C ? x * size : x));
      const outGradient = noise(batch * context * C, 2);
      const want = referenceAttention(shape, qkv, outGradient, shape.dropout ? DROPOUT : undefined);
      const { results, again } = await run(variant, shape, qkv, outGradient);
      const [out, logsumexp, qkvGradient] = results;
      agree(out, want.out, tolerance, 'out');
      agree(logsumexp, want.logsumexp, tolerance, 'logsumexp');
      for (const [part, name] of ['query', 'key', 'value'].entries()) {
        const ofPart = (values: ArrayLike<number>) =>
          Array.from(values).filter((_, n) => Math.floor((n % (3 * C)) / C) === part);
        const [got, wanted] = [ofPart(qkvGradient), ofPart(want.qkvGradient)];
        // With one token softmax is constant, so the gradients of q and k are rounding errors around zero.
        if (context === 1 && part < 2) expect(Math.max(...got.map(Math.abs))).toBeLessThan(1e-6);
        else agree(got, wanted, tolerance, `gradient of the ${name}`);
      }
      for (const [n, values] of results.entries())
        expect(Buffer.from(again[n].buffer).equals(Buffer.from(values.buffer)), 'the same bits again').toBe(true);
    },
  );
});

test('attention refuses heads that its registers do not hold', () => {
  const view = {} as View;
  const shape = { batch: 1, context: 4, heads: 1, headSize: 129 };
  const graph = { add: () => undefined, plan: { attention: 'tile' } } as const;
  expect(() => attention(graph, shape, { qkv: view, out: view, logsumexp: view })).toThrow(
    expect.objectContaining({
      code: 'LT_USAGE_MODEL',
      message: expect.stringMatching(/^heads of 129 values: .* --heads/),
    }),
  );
});
