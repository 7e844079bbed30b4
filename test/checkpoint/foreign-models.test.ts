import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { checkFinite, openModel, writeModel } from '../../src/checkpoint/huggingface.js';
import { writeSafetensors } from '../../src/checkpoint/safetensors.js';
import type { ModelConfig } from '../../src/model/config.js';
import { parameters } from '../../src/model/parameters.js';
import { failure, scratch, state, TINY } from './helpers.js';

const TIED: ModelConfig = { ...TINY, tie: true, qkvBias: true };

/** A folder of `model` whose tensors have the names that `rename` gives them, and others besides. */
async function folder(
  model: ModelConfig,
  rename: (name: string) => string = (name) => name,
  others: Record<string, { shape: number[]; values: Float32Array }> = {},
): Promise<string> {
  const dir = scratch();
  await writeModel(dir, model, (name) => state(model)('weights', name));
  const tensors = new Map(Object.entries(others));
  for (const { name, shape } of parameters(model))
    tensors.set(rename(name), { shape: [...shape], values: state(model)('weights', name) });
  const entries = [...tensors].map(([name, { shape }]) => ({ name, shape }));
  await writeSafetensors(join(dir, 'model.safetensors'), entries, (name) => tensors.get(name)?.values ?? expect.fail());
  return dir;
}
const filled = (value: number, ...shape: number[]) => ({
  shape,
  values: new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(value),
});
const layered = (name: string) => (name === 'lm_head.weight' ? name : `transformer.${name}`);
/** The biases that transformers saves for a model without them. */
const biases = (value: number, layers = TINY.layers) =>
  Object.fromEntries(
    Array.from({ length: layers }, (_, i) => [`transformer.h.${i}.attn.c_attn.bias`, filled(value, 3 * TINY.width)]),
  );

describe('names from other programs', () => {
  test.each<[string, (name: string) => string]>([
    ['torch.compile', (name) => `_orig_mod.${layered(name)}`],
    ['DistributedDataParallel', (name) => `module.${layered(name)}`],
    ['both', (name) => `module._orig_mod.${layered(name)}`],
    ['both the other way round', (name) => `_orig_mod.module.${layered(name)}`],
    ['torch.compile without its transformer', (name) => `_orig_mod.${name}`],
    ['a compiled block', (name) => layered(name).replace(/(h\.\d+\.)/, '$1_orig_mod.')],
    [
      'sharding and recomputation',
      (name) => `_fsdp_wrapped_module.${layered(name).replace(/(h\.\d+\.)/, '$1_checkpoint_wrapped_module.')}`,
    ],
    ['a trainer with a value head', (name) => `pretrained_model.${layered(name)}`],
  ])('tensor names as %s gives them are read', async (_, rename) => {
    const model = await openModel(await folder(TINY, rename));
    for (const { name } of parameters(TINY)) expect(model.read(name)).toEqual(state(TINY)('weights', name));
    expect(model.passedOver).toEqual([]);
    model.close();
  });

  test('buffers are passed over under any prefix, other heads as well, which are named', async () => {
    const dir = await folder(TIED, (name) => `_orig_mod.${layered(name)}`, {
      '_orig_mod.transformer.h.0.attn.bias': filled(1, 1, 1, 5, 5),
      '_orig_mod.transformer.h.0.attn.masked_bias': filled(-1e4),
      'v_head.summary.weight': filled(1, 1, 6),
      '_orig_mod.score.weight': filled(1, 2, 6),
    });
    const model = await openModel(dir);
    expect(model.passedOver).toEqual(['v_head.summary.weight', '_orig_mod.score.weight']);
    model.close();
  });

  test('unknown names come first where there are many, beside those that are missing', async () => {
    const dir = await folder(TINY, (name) => `decoder.${name}`);
    const message = await failure('LT_CHECKPOINT_TENSOR', () => openModel(dir));
    const count = parameters(TINY).length;
    expect(message).toBe(
      `${dir} does not fit its config.json: decoder.wte.weight is unknown; decoder.wpe.weight is unknown; ` +
        `decoder.h.0.ln_1.weight is unknown; wte.weight is missing (expected [11, 6]); wpe.weight is missing ` +
        `(expected [5, 6]); h.0.ln_1.weight is missing (expected [6]); and ${2 * count - 6} more`,
    );
    const adapted = await folder(TINY, layered, { 'transformer.h.0.attn.c_attn.lora_A.weight': filled(0, 2, 6) });
    expect(await failure('LT_CHECKPOINT_TENSOR', () => openModel(adapted))).toContain('lora_A.weight is unknown');
  });

  test('two names that mean the same tensor are refused', async () => {
    const dir = await folder(TINY, layered, { 'module.wte.weight': filled(0, 11, 6) });
    expect(await failure('LT_CHECKPOINT_TENSOR', () => openModel(dir))).toContain('wte.weight twice');
  });

  test("nanoGPT's transposed matrices are called transposed", async () => {
    const dir = await folder(TINY, layered, {});
    const turned = { 'transformer.h.0.mlp.c_fc.weight': filled(0, 24, 6) };
    const tensors = new Map(parameters(TINY).map(({ name, shape }) => [layered(name), filled(0, ...shape)]));
    for (const [name, tensor] of Object.entries(turned)) tensors.set(name, tensor);
    const entries = [...tensors].map(([name, { shape }]) => ({ name, shape }));
    await writeSafetensors(
      join(dir, 'model.safetensors'),
      entries,
      (name) => tensors.get(name)?.values ?? expect.fail(),
    );
    expect(await failure('LT_CHECKPOINT_TENSOR', () => openModel(dir))).toContain(
      'h.0.mlp.c_fc.weight: expected [6, 24], got [24, 6], transposed as nanoGPT stores it',
    );
  });
});

describe('a model without QKV bias that went through transformers', () => {
  test('a model without QKV bias comes back from transformers: its biases are zeros', async () => {
    for (const zero of [0, -0]) {
      const model = await openModel(await folder(TINY, layered, biases(zero)));
      expect(model.config).toEqual(TINY);
      for (const { name } of parameters(TINY)) expect(model.read(name)).toEqual(state(TINY)('weights', name));
      model.close();
    }
  });

  test('a QKV bias that is not zero, not a number or missing is refused by name', async () => {
    const others = biases(0);
    others['transformer.h.1.attn.c_attn.bias'].values[17] = 1e-30;
    const refused = async (tensors: typeof others) => {
      const dir = await folder(TINY, layered, tensors);
      return failure('LT_CHECKPOINT_TENSOR', () => openModel(dir));
    };
    expect(await refused(others)).toContain(
      'h.1.attn.c_attn.bias is not zero, though config.json says "qkv_bias": false',
    );
    expect(await refused(biases(Number.NaN))).toContain('h.0.attn.c_attn.bias is not zero');
    expect(await refused(biases(0, 1))).toContain('h.0.attn.c_attn.bias is unknown');
  });
});

test('weights that are NaN or infinite are named with their tensor', async () => {
  const dir = await folder(TINY);
  const good = await openModel(dir);
  checkFinite(dir, good);
  good.close();
  const bad = (name: string) => {
    const values = Float32Array.from(state(TINY)('weights', name));
    if (name === 'h.1.ln_2.bias') values[2] = Number.NaN;
    if (name === 'lm_head.weight') values.fill(Number.NEGATIVE_INFINITY, 3, 8);
    return values;
  };
  await writeModel(dir, TINY, bad);
  const model = await openModel(dir);
  const message = await failure('LT_CHECKPOINT_TENSOR', () => checkFinite(dir, model));
  expect(message).toContain(
    `${dir} has weights that are NaN or infinite: h.1.ln_2.bias (1 of 6), lm_head.weight (5 of 66);`,
  );
  model.close();
});

describe('a folder without a readable model.safetensors says what it has instead', () => {
  const LFS = `version https://git-lfs.github.com/spec/v1\noid sha256:${'0'.repeat(64)}\nsize 548105171\n`;
  test.each<[string, string | Buffer, ...string[]]>([
    ['pytorch_model.bin', 'x', 'pytorch_model.bin is a pickle of PyTorch', 'safe_serialization=True'],
    ['pytorch_model-00001-of-00002.bin', 'x', 'pickle of PyTorch'],
    ['ckpt.pt', 'x', 'ckpt.pt is a pickle'],
    ['tf_model.h5', 'x', 'tf_model.h5 is of another framework', 'safe_serialization=True'],
    ['adapter_model.safetensors', 'x', 'adapter (LoRA)', 'merge_and_unload'],
    ['model-00001-of-00002.safetensors', 'x', 'shards', 'model.safetensors.index.json'],
    ['gpt2-best.safetensors', 'x', 'call it model.safetensors'],
    ['model.gguf', 'x', 'for inference'],
    ['notes.txt', 'x', 'no weights at all'],
    ['model.safetensors', LFS, 'model.safetensors is no safetensors file: it is a Git LFS pointer', 'git lfs pull'],
    ['model.safetensors', '<!DOCTYPE html>\n<html><title>404</title></html>', 'an HTML page', 'fetch it again'],
    ['model.safetensors', 'PK\x03\x04\x14\0\0\0\b\0archive/data.pkl', 'a zip archive', 'PyTorch'],
    ['model.safetensors.index.json', LFS, 'index.json is a Git LFS pointer'],
    ['config.json', LFS, 'config.json is a Git LFS pointer'],
    ['config.json', gzipSync('{}'), 'config.json is gzip-compressed: unpack it first'],
    ['config.json', '{"model": {}, "options": {}}', 'is that of a run', 'checkpoints/'],
  ])('a folder without readable weights says what its %s is', async (name, content, ...parts) => {
    const dir = await folder(TINY);
    rmSync(join(dir, 'model.safetensors'));
    writeFileSync(join(dir, name), content);
    const message = await failure('LT_CHECKPOINT_CORRUPT', () => openModel(dir));
    for (const part of parts) expect(message).toContain(part);
    expect(message).toContain(dir);
  });

  test('a file whose header length happens to be the mark of another kind is read', async () => {
    const dir = await folder(TINY);
    const path = join(dir, 'model.safetensors');
    const old = readFileSync(path);
    const header = old.subarray(8, 8 + Number(old.readBigUInt64LE(0)));
    // The bytes 1f 8b 08, gzip's, are a length of 559,903.
    const length = Buffer.alloc(8);
    length.writeUInt32LE(0x088b1f);
    const padded = Buffer.concat([header, Buffer.alloc(0x088b1f - header.length, ' ')]);
    writeFileSync(`${path}.new`, Buffer.concat([length, padded, old.subarray(8 + header.length)]));
    renameSync(`${path}.new`, path);
    const model = await openModel(dir);
    expect(model.read('wpe.weight')).toEqual(state(TINY)('weights', 'wpe.weight'));
    model.close();
  });
});
