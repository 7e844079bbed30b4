import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { writeModel } from '../../src/checkpoint/huggingface.js';
import { memoryTokens } from '../../src/data/token-file.js';
import type { ErrorCode } from '../../src/errors.js';
import { parameters } from '../../src/model/parameters.js';
import { prepareJob } from '../../src/run/prepare.js';
import type { TrainingEngine } from '../../src/train/engine.js';
import { BASE_OPTIONS } from '../../src/train/options.js';
import type { RunConfig } from '../../src/train/run-config.js';
import { Trainer } from '../../src/train/trainer.js';
import { failure } from '../checkpoint/helpers.js';

const folder = mkdtempSync(join(tmpdir(), 'lantrain-job-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** The error of a request that is refused before a GPU is opened; opening this adapter would fail. */
const refused = (code: ErrorCode, request: Partial<Parameters<typeof prepareJob>[0]>) =>
  failure(code, () => prepareJob({ explicit: {}, alone: true, adapter: 'no such adapter', tell() {}, ...request }));

describe('weights to begin with', () => {
  const MODEL = { vocabSize: 256, context: 8, width: 8, layers: 1, heads: 1, tie: true, qkvBias: true };

  test('weights to begin with are refused where one is NaN, with its tensor', async () => {
    const init = join(folder, 'nan');
    await writeModel(init, MODEL, (name) => {
      const { size } = parameters(MODEL).find((one) => one.name === name) ?? expect.fail();
      return new Float32Array(size).fill(name === 'h.0.mlp.c_fc.bias' ? Number.NaN : 0);
    });
    expect(await refused('LT_CHECKPOINT_TENSOR', { init })).toContain(
      `${init} has weights that are NaN or infinite: h.0.mlp.c_fc.bias (32 of 32)`,
    );
  });

  test('weights to begin with are refused where there is no such folder, say for a name of the hub', async () => {
    expect(await refused('LT_CHECKPOINT_CORRUPT', { init: 'openai-community/gpt2' })).toContain(
      'there is no folder openai-community/gpt2: --init takes',
    );
  });
});

describe('a part of the data that is too short', () => {
  const data = join(folder, 'text.txt');
  writeFileSync(data, 'Call me Ishmael. '.repeat(40));
  const explicit = {
    data,
    tokenizer: 'bytes' as const,
    layers: 1,
    heads: 1,
    width: 8,
    context: 64,
    batch: 2,
    microBatch: 1,
  };

  test('a part of the data too short is refused before a GPU is opened, the validation part only where it is evaluated', async () => {
    const short = { ...explicit, valRatio: 0.02 };
    expect(await refused('LT_DATA_SHORT', { explicit: short })).toContain('the validation part has 14 tokens');
    expect(await refused('LT_DATA_SHORT', { explicit: { ...explicit, batch: 50 } })).toContain('the training part');
    await refused('LT_GPU_NONE', { explicit: { ...short, evalEvery: 0 } });
    await refused('LT_GPU_NONE', { explicit: { ...explicit, valRatio: 0 } });
  });

  test('a part of the data too short stops no training that never looks at it', () => {
    const part = (length: number) => memoryTokens(new Uint16Array(length));
    const data = { train: part(500), validation: part(3), hash: '', description: '', tokens: 503, close: () => {} };
    const model = { vocabSize: 256, context: 64, width: 8, layers: 1, heads: 1, tie: true, qkvBias: true };
    const trainer = (evalEvery: number) => {
      const options = { ...BASE_OPTIONS, ...explicit, stride: 64, evalEvery };
      return new Trainer({} as TrainingEngine, { model, options } as RunConfig, data, undefined);
    };
    expect(trainer(0).windows.windowCount).toBe(7);
    expect(() => trainer(1)).toThrow('validation part has 3 tokens');
  });
});
