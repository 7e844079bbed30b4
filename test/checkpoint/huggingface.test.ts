import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { openModel, writeModel } from '../../src/checkpoint/huggingface.js';
import { writeSafetensors } from '../../src/checkpoint/safetensors.js';
import type { ModelConfig } from '../../src/model/config.js';
import { parameters } from '../../src/model/parameters.js';
import { readTensors } from '../reference/safetensors.js';
import { failure, GOLDEN, scratch, state, TINY } from './helpers.js';

type Tensors = Map<string, { shape: readonly number[]; values: Float32Array }>;

/** A folder of `model`, with its config.json and its tensors changed by the callers. */
async function folder(
  model: ModelConfig,
  change: { config?: Record<string, unknown>; tensors?: (tensors: Tensors) => void; prefix?: string } = {},
): Promise<string> {
  const dir = scratch();
  await writeModel(dir, model, (name) => state(model)('weights', name));
  const configPath = join(dir, 'config.json');
  const config = { ...JSON.parse(readFileSync(configPath, 'utf8')), ...change.config };
  writeFileSync(configPath, JSON.stringify(config));
  const prefix = change.prefix ?? 'transformer.';
  const tensors: Tensors = new Map();
  for (const { name, shape } of parameters(model))
    tensors.set((name === 'lm_head.weight' ? '' : prefix) + name, { shape, values: state(model)('weights', name) });
  change.tensors?.(tensors);
  const entries = [...tensors].map(([name, { shape }]) => ({ name, shape }));
  await writeSafetensors(join(dir, 'model.safetensors'), entries, (name) => tensors.get(name)?.values ?? expect.fail());
  return dir;
}
const filled = (...shape: number[]) => ({ shape, values: new Float32Array(shape.reduce((a, b) => a * b, 1)) });
const TIED: ModelConfig = { ...TINY, tie: true, qkvBias: true };

describe("reading Hugging Face's GPT-2 folder", () => {
  test.each([
    ['tied', { vocabSize: 97, context: 16, width: 32, layers: 2, heads: 4, tie: true, qkvBias: true }],
    ['untied', { vocabSize: 61, context: 12, width: 24, layers: 2, heads: 3, tie: false, qkvBias: false }],
  ])("PyTorch's %s model is read, shape and values", async (which, config) => {
    const model = await openModel(join(GOLDEN, which));
    expect(model.config).toEqual(config);
    const expected = readTensors(join(GOLDEN, which, 'model.safetensors'));
    for (const { name } of parameters(model.config))
      expect(model.read(name)).toEqual(expected.get(`transformer.${name}`) ?? expected.get(name));
    model.close();
  });

  test.each([['transformer.'], ['']])('names with the prefix %j are read, buffers are passed over', async (prefix) => {
    const dir = await folder(TINY, {
      prefix,
      tensors: (tensors) => {
        tensors.set(`${prefix}h.0.attn.bias`, filled(1, 1, 5, 5));
        tensors.set(`${prefix}h.1.attn.masked_bias`, filled());
      },
    });
    const model = await openModel(dir);
    for (const { name } of parameters(TINY)) expect(model.read(name)).toEqual(state(TINY)('weights', name));
    model.close();
  });

  test('ties and biases are taken for granted where config.json is silent, as in OpenAI files', async () => {
    const silent = { tie_word_embeddings: undefined, qkv_bias: undefined, n_ctx: undefined, n_inner: undefined };
    const model = await openModel(await folder(TIED, { config: { ...silent, task_specific_params: { a: 1 } } }));
    expect(model.config).toEqual(TIED);
    model.close();
  });

  test('every missing, misshapen and unknown tensor is named in one error', async () => {
    const dir = await folder(TINY, {
      tensors: (tensors) => {
        tensors.delete('transformer.h.1.ln_2.bias');
        tensors.delete('lm_head.weight');
        tensors.set('transformer.wpe.weight', filled(6, 5));
        tensors.set('transformer.h.0.attn.c_attn.bias', filled(18));
      },
    });
    expect(await failure('LT_CHECKPOINT_TENSOR', () => openModel(dir))).toBe(
      `${dir} does not fit its config.json: wpe.weight: expected [5, 6], got [6, 5]; h.1.ln_2.bias is missing ` +
        '(expected [6]); lm_head.weight is missing (expected [11, 6]); h.0.attn.c_attn.bias is unknown',
    );
  });

  test('faults beyond a handful are counted', async () => {
    const dir = await folder(TINY, { tensors: (tensors) => tensors.clear() });
    const message = await failure('LT_CHECKPOINT_TENSOR', () => openModel(dir));
    expect(message).toMatch(/wte\.weight is missing .*; and \d+ more$/);
    expect(message).toContain(`and ${parameters(TINY).length - 6} more`);
  });

  test('a tied head may be there if it is the embedding', async () => {
    const head = (change: number) => (tensors: Tensors) => {
      const values = state(TIED)('weights', 'wte.weight');
      values[65] += change;
      tensors.set('lm_head.weight', { shape: [11, 6], values });
    };
    const model = await openModel(await folder(TIED, { tensors: head(0) }));
    model.close();
    const other = await folder(TIED, { tensors: head(1) });
    expect(await failure('LT_CHECKPOINT_TENSOR', () => openModel(other))).toContain('lm_head.weight is not wte.weight');
    const misshapen = await folder(TIED, { tensors: (tensors) => tensors.set('lm_head.weight', filled(3)) });
    expect(await failure('LT_CHECKPOINT_TENSOR', () => openModel(misshapen))).toContain('expected [11, 6], got [3]');
  });

  test.each<[string, unknown]>([
    ['activation_function', 'relu'],
    ['layer_norm_epsilon', 1e-6],
    ['n_inner', 7],
    ['model_type', 'llama'],
    ['scale_attn_by_inverse_layer_idx', true],
  ])('a model whose %s is %j is refused by name', async (key, value) => {
    const dir = await folder(TINY, { config: { [key]: value } });
    const message = await failure('LT_USAGE_MODEL', () => openModel(dir));
    expect(message).toContain(`${key} is ${JSON.stringify(value)}`);
  });

  test('a config.json that is missing, damaged or incomplete is refused with its path', async () => {
    const dir = scratch();
    const path = join(dir, 'config.json');
    expect(await failure('LT_CHECKPOINT_CORRUPT', () => openModel(dir))).toContain(`${path} cannot be read`);
    writeFileSync(path, '{');
    expect(await failure('LT_CHECKPOINT_CORRUPT', () => openModel(dir))).toBe(`${path} is no JSON`);
    writeFileSync(path, '{"vocab_size": 5}');
    expect(await failure('LT_CHECKPOINT_CORRUPT', () => openModel(dir))).toContain('n_embd');
  });

  test('shards named by an index are read as one; an index that leaves its folder is refused', async () => {
    const [whole, dir] = [await folder(TINY), scratch()];
    copyFileSync(join(whole, 'config.json'), join(dir, 'config.json'));
    const shards = [0, 1].map((part) => parameters(TINY).filter((_, i) => i % 2 === part));
    const map: Record<string, string> = {};
    for (const [i, shard] of shards.entries()) {
      const file = `model-0000${i + 1}-of-00002.safetensors`;
      await writeSafetensors(join(dir, file), shard, (name) => state(TINY)('weights', name));
      for (const { name } of shard) map[name] = file;
    }
    const index = join(dir, 'model.safetensors.index.json');
    writeFileSync(index, JSON.stringify({ metadata: { total_size: 1 }, weight_map: map }));
    const model = await openModel(dir);
    for (const { name } of parameters(TINY)) expect(model.read(name)).toEqual(state(TINY)('weights', name));
    model.close();
    writeFileSync(index, JSON.stringify({ weight_map: { a: '../model.safetensors' } }));
    expect(await failure('LT_CHECKPOINT_CORRUPT', () => openModel(dir))).toContain('not in its folder');
  });
});

describe("writing Hugging Face's GPT-2 folder", () => {
  test.each(['tied', 'untied'])("PyTorch's %s model comes out as it went in", async (which) => {
    const dir = join(scratch(), 'made', 'on the way');
    const model = await openModel(join(GOLDEN, which));
    await writeModel(dir, model.config, model.read);
    const [source, copy] = [join(GOLDEN, which), dir].map((at) => readTensors(join(at, 'model.safetensors')));
    expect([...copy]).toEqual([...source]);
    const [before, after] = [join(GOLDEN, which), dir].map((at) =>
      JSON.parse(readFileSync(join(at, 'config.json'), 'utf8')),
    );
    expect(after).toMatchObject(before);
    expect(readdirSync(dir).sort()).toEqual(['config.json', 'model.safetensors']);
    model.close();
  });

  test('a folder that cannot be made is refused with the system reason', async () => {
    const dir = scratch();
    writeFileSync(join(dir, 'file'), '');
    mkdirSync(join(dir, 'folder'));
    const inFile = join(dir, 'file', 'model');
    const message = await failure('LT_RUN_WRITE', () => writeModel(inFile, TINY, () => new Float32Array()));
    expect(message).toBe(`cannot write ${inFile}: not a directory (ENOTDIR)`);
  });
});
