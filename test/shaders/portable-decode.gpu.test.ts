import { beforeAll, describe, test } from 'vitest';
import type { AttentionVariant } from '../../src/model/attention.js';
import { cachedAttention, embedToken } from '../../src/model/ops/decode.js';
import { rounded } from '../../src/reference/arithmetic.js';
import { cachedAttention as referenceAttention, embedToken as referenceEmbedding } from '../../src/reference/decode.js';
import { GpuHarness, noise } from '../gpu/harness.js';
import { OperationHarness } from '../model/harness.js';
import { sameBits } from '../reference/portable/same-bits.js';

let harness: GpuHarness;
beforeAll(async () => {
  harness = await GpuHarness.open();
});

test('portable decoding embeds a token as the reference does, in every bit', async () => {
  const C = 9;
  const model = await OperationHarness.create(harness, { vocabSize: 5, width: C, context: 3 }, {}, true);
  const [wte, wpe] = [model.fill('wte.weight', 1), model.fill('wpe.weight', 2, 0.01)];
  const x = await harness.zeros(C);
  const place = await harness.put(Uint32Array.of(4, 2));
  await model.run((g) => embedToken(g, { place, x }));
  sameBits(await harness.floats(x), referenceEmbedding(wte, wpe, C, 4, 2), 'x');
});

describe.each<AttentionVariant>(['tile', 'tile/kept'])('portable decoding, %s', (variant) => {
  test.each([
    { heads: 1, headSize: 1, context: 2, size: 1 },
    { heads: 3, headSize: 5, context: 66, size: 1 },
    { heads: 2, headSize: 32, context: 20, size: 8 },
  ])(
    'portable decoding is the reference in every bit: $heads heads of $headSize, $context tokens, size $size',
    async ({ heads, headSize, context: T, size }) => {
      const C = heads * headSize;
      const model = await OperationHarness.create(
        harness,
        { width: C, heads, context: T },
        { attention: variant },
        true,
      );
      const values = noise(T * 3 * C, 3, size).map(rounded);
      const [cache, scores] = [await harness.zeros(T * 2 * C), await harness.zeros(heads * T)];
      const [place, qkv, out] = [
        await harness.put(new Uint32Array(2)),
        await harness.zeros(3 * C),
        await harness.zeros(C),
      ];
      const wantCache = new Float32Array(T * 2 * C);
      for (let t = 0; t < T; t++) {
        const row = values.subarray(t * 3 * C, (t + 1) * 3 * C);
        wantCache.set(row.subarray(C), t * 2 * C);
        harness.gpu.write(place, Uint32Array.of(0, t));
        harness.gpu.write(qkv, row);
        await model.run((g) => cachedAttention(g, { place, qkv, cache, scores, out }));
        sameBits(await harness.floats(out), referenceAttention({ heads, headSize }, row, wantCache, t), `token ${t}`);
      }
    },
  );

  test('NaN in a key or a value reaches the output', async () => {
    const [C, T] = [4, 3];
    const model = await OperationHarness.create(
      harness,
      { width: C, heads: 1, context: T },
      { attention: variant },
      true,
    );
    const [cache, scores] = [await harness.zeros(T * 2 * C), await harness.zeros(T)];
    const [place, qkv, out] = [
      await harness.put(Uint32Array.of(0, 1)),
      await harness.zeros(3 * C),
      await harness.zeros(C),
    ];
    const wantCache = noise(T * 2 * C, 4).map(rounded);
    for (const at of [2, C + 3]) {
      const cached = wantCache.slice();
      cached[at] = Number.NaN;
      const row = noise(3 * C, 5).map(rounded);
      harness.gpu.write(cache, cached);
      harness.gpu.write(qkv, row);
      cached.set(row.subarray(C), 2 * C);
      await model.run((g) => cachedAttention(g, { place, qkv, cache, scores, out }));
      sameBits(
        await harness.floats(out),
        referenceAttention({ heads: 1, headSize: C }, row, cached, 1),
        `NaN at ${at}`,
      );
    }
  });
});
