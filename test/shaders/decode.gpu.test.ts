import { beforeAll, expect, test } from 'vitest';
import { cachedAttention, embedToken } from '../../src/model/ops/decode.js';
import { GpuHarness, noise } from '../gpu/harness.js';
import { OperationHarness } from '../model/harness.js';
import { agree } from '../reference/agree.js';
import { causalAttention } from '../reference/operations.js';

let harness: GpuHarness;
beforeAll(async () => {
  harness = await GpuHarness.open();
});

test('decoding embeds one token at its position, from whichever window of the table holds it', async () => {
  const [C, T] = [9, 3];
  const model = await OperationHarness.create(
    harness,
    { vocabSize: 130, width: C, context: T },
    { windowValues: 64 * C },
  );
  expect(model.weights.layout.piecesOf('wte.weight').length).toBe(3);
  const [wte, wpe] = [model.fill('wte.weight', 1), model.fill('wpe.weight', 2)];
  const x = await harness.zeros(C);
  for (const [token, position] of [
    [0, 0],
    [63, 1],
    [64, 2],
    [129, 0],
  ]) {
    const place = await harness.put(Uint32Array.of(token, position));
    await model.run((g) => embedToken(g, { place, x }));
    const want = Array.from({ length: C }, (_, c) => wte[token * C + c] + wpe[position * C + c]);
    agree(await harness.floats(x), want, 1e-6, `token ${token} at ${position}`);
  }
});

test.each([
  { heads: 1, headSize: 1, context: 2 },
  { heads: 3, headSize: 5, context: 66 },
])(
  'decoding attends over the cache as over the whole sequence: $heads heads of $headSize, $context tokens',
  async (shape) => {
    const { heads, headSize, context: T } = shape;
    const C = heads * headSize;
    const model = await OperationHarness.create(harness, { width: C, heads, context: T });
    // Scores of up to 100 and more: the maximum must be taken out before the exponential.
    const values = noise(T * 3 * C, 3, 12);
    const want = causalAttention({ batch: 1, ...shape }, values).y;
    const [cache, scores, out] = [
      await harness.zeros(T * 2 * C),
      await harness.zeros(heads * T),
      await harness.zeros(C),
    ];
    const [place, qkv] = [await harness.put(new Uint32Array(2)), await harness.zeros(3 * C)];
    for (let t = 0; t < T; t++) {
      harness.gpu.write(place, Uint32Array.of(0, t));
      harness.gpu.write(qkv, values.subarray(t * 3 * C, (t + 1) * 3 * C));
      await model.run((g) => cachedAttention(g, { place, qkv, cache, scores, out }));
      agree(await harness.floats(out), want.subarray(t * C, (t + 1) * C), 1e-4, `token ${t}`);
    }
  },
);
