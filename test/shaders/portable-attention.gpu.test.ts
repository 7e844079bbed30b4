import { beforeAll, describe, expect, test } from 'vitest';
import { ATTENTION_VARIANTS, type AttentionVariant, attentionKernel } from '../../src/model/attention.js';
import { attention, attentionGradient } from '../../src/model/ops/attention.js';
import { rounded } from '../../src/reference/arithmetic.js';
import {
  type AttentionShape,
  attention as referenceAttention,
  attentionGradient as referenceGradient,
} from '../../src/reference/attention.js';
import { deriveKey } from '../../src/util/random.js';
import { GpuHarness, noise } from '../gpu/harness.js';
import { OperationHarness } from '../model/harness.js';
import { dropoutFactors } from '../reference/operations.js';
import { sameBits } from '../reference/portable/same-bits.js';
import { sampled } from '../thorough.js';

let harness: GpuHarness;
beforeAll(async () => {
  harness = await GpuHarness.open();
});

interface Case extends AttentionShape {
  readonly dropout?: boolean;
  /** The scale of q and k; scores are about its square. */
  readonly size?: number;
}

const one = (context: number, headSize: number, rest: Partial<Case> = {}): Case => ({
  batch: 1,
  heads: 1,
  context,
  headSize,
  ...rest,
});

const CASES: readonly Case[] = [
  // Most exponentials are zero, and the maximum grows from block to block.
  one(70, 20, { heads: 2, size: 30 }),
  one(1, 4, { dropout: true }),
  one(17, 20, { batch: 2, heads: 2, dropout: true }),
  one(2, 1, { batch: 2, heads: 3 }),
  one(64, 32, { batch: 2, heads: 4, dropout: true }),
  one(33, 4, { heads: 3 }),
  one(33, 32, { heads: 2, size: 6, dropout: true }),
  one(70, 32, { batch: 2, heads: 2 }),
  one(35, 64, { heads: 2, dropout: true }),
  one(34, 100, { heads: 1, size: 4 }),
  one(33, 128, { batch: 2, dropout: true }),
];

const RATE = 0.3;
const FIRST_SLOT = 7;
const KEY = deriveKey(5, 3, 1, 2);

function inputs({ batch, context, heads, headSize, size = 1 }: Case) {
  const C = heads * headSize;
  const qkv = noise(batch * context * 3 * C, 1).map((x, n) => rounded(n % (3 * C) < 2 * C ? x * size : x));
  return { qkv, outGradient: noise(batch * context * C, 2).map(rounded) };
}

function reference(shape: Case, { qkv, outGradient }: ReturnType<typeof inputs>) {
  const { batch, heads, context: T } = shape;
  const factors = shape.dropout ? dropoutFactors(KEY, RATE, FIRST_SLOT, batch, heads * T * T) : undefined;
  const { out, logsumexp } = referenceAttention(shape, qkv, factors);
  return { out, logsumexp, ...referenceGradient(shape, { qkv, out, logsumexp, outGradient }, factors) };
}

async function run(variant: AttentionVariant, shape: Case, values: ReturnType<typeof inputs>) {
  const { batch, context, heads, headSize } = shape;
  const rows = batch * heads * context;
  const filled = (n: number) => harness.put(new Float32Array(n).fill(Number.NaN));
  const qkv = await harness.put(values.qkv);
  const outGradient = await harness.put(values.outGradient);
  const out = await filled(rows * headSize);
  const logsumexp = await filled(rows);
  const delta = await filled(rows);
  const qkvGradient = await filled(rows * headSize * 3);
  const scale = { f32: 1 / (1 - RATE) };
  const key = () => harness.uniform([...KEY, FIRST_SLOT, Math.round(RATE * 2 ** 32), scale]);
  const dropout = shape.dropout ? await key() : undefined;
  const model = await OperationHarness.create(harness, {}, { attention: variant }, true);
  await model.run((g) => {
    attention(g, shape, { qkv, out, logsumexp, dropout });
    attentionGradient(g, shape, { qkv, out, logsumexp, outGradient, delta, qkvGradient, dropout });
  });
  return {
    out: await harness.floats(out),
    logsumexp: await harness.floats(logsumexp),
    qkvGradient: await harness.floats(qkvGradient),
    delta: await harness.floats(delta),
  };
}

/** The variable that must be set for cases which take the adapter ten seconds or more to compile. */
function neededFor(variant: AttentionVariant, headSize: number): 'LANTRAIN_ALL_DRIVERS' | 'LANTRAIN_SLOW' | undefined {
  const { software, subgroupSize } = harness.gpu.adapter;
  const isTile = attentionKernel(variant).lanes === undefined;
  if (!software || headSize <= 32 || (!isTile && subgroupSize === 8)) return undefined;
  return isTile && headSize >= 64 ? 'LANTRAIN_SLOW' : 'LANTRAIN_ALL_DRIVERS';
}

type Skip = (condition: boolean, why: string) => void;

function skipWhereImpossible(skip: Skip, variant: AttentionVariant): void {
  const { adapter } = harness.gpu;
  const { lanes } = attentionKernel(variant);
  skip(lanes !== undefined && lanes !== adapter.subgroupSize, `${adapter.name} has no subgroups of ${lanes}`);
}

describe.each(ATTENTION_VARIANTS)('portable attention, %s', (variant) => {
  test.for(sampled(CASES, 2))(
    'portable attention is the reference in every bit: batch $batch, $context tokens, $heads heads of $headSize, dropout $dropout, size $size',
    async (shape, { skip }) => {
      skipWhereImpossible(skip, variant);
      const needed = neededFor(variant, shape.headSize);
      skip(needed !== undefined && !process.env[needed], `compiles too long on this adapter; run with ${needed}=1`);
      const values = inputs(shape);
      const got = await run(variant, shape, values);
      const want = reference(shape, values);
      sameBits(got.out, want.out, 'out');
      sameBits(got.logsumexp, want.logsumexp, 'logsumexp');
      sameBits(got.delta, want.delta, 'delta');
      sameBits(got.qkvGradient, want.qkvGradient, 'qkvGradient');
    },
  );

  test.for(sampled([one(34, 32, { size: 8 }), one(33, 20, { heads: 2, dropout: true })], 2))(
    'sums that are kept from compilers have the same bits: $context tokens, heads of $headSize',
    async (shape, { skip }) => {
      skipWhereImpossible(skip, variant);
      const values = inputs(shape);
      const [got, want] = [await run(`${variant}/kept`, shape, values), reference(shape, values)];
      sameBits(got.out, want.out, 'out');
      sameBits(got.logsumexp, want.logsumexp, 'logsumexp');
      sameBits(got.delta, want.delta, 'delta');
      sameBits(got.qkvGradient, want.qkvGradient, 'qkvGradient');
    },
  );

  test.for(['query', 'key', 'value', 'outGradient'] as const)(
    'NaN in one %s reaches all that it enters',
    async (part, { skip }) => {
      skipWhereImpossible(skip, variant);
      const shape = one(33, 8, { heads: 2, dropout: true });
      const [T, C, token, column] = [33, 16, 18, 11];
      const values = inputs(shape);
      if (part === 'outGradient') values.outGradient[token * C + column] = Number.NaN;
      else values.qkv[(token * 3 + ['query', 'key', 'value'].indexOf(part)) * C + column] = Number.NaN;
      const { out, qkvGradient, logsumexp } = await run(variant, shape, values);
      const isNaNAt = (array: Float32Array, at: number) => Number.isNaN(array[at]);
      const head = C / 2; // the second head has the NaN
      for (let i = token; i < (part === 'query' ? token + 1 : T); i++) {
        if (part !== 'outGradient')
          expect(isNaNAt(out, i * C + (part === 'value' ? column : head)), `out of token ${i}`).toBe(true);
        if (part === 'query' || part === 'key') expect(isNaNAt(logsumexp, T + i), `logsumexp of ${i}`).toBe(true);
      }
      for (const [n, name] of ['query', 'key'].entries())
        expect(isNaNAt(qkvGradient, (token * 3 + n) * C + head), `gradient of the ${name}`).toBe(true);
      for (const values of [out, qkvGradient]) {
        const first = [...values.keys()].filter((n) => n % C < head);
        expect(
          first.some((n) => isNaNAt(values, n)),
          'in the other head',
        ).toBe(false);
      }
    },
  );
});
