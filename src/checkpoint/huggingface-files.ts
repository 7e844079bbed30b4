import { existsSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { LantrainError } from '../errors.js';
import { validate } from '../util/validate.js';
import { readJson } from './huggingface-config.js';
import { openSafetensors, type SafetensorsFile } from './safetensors.js';

const WHOLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';
const Index = z.object({ weight_map: z.record(z.string(), z.string()) });

/** Opens the folder's model.safetensors, or all shards in its index. Throws LT_CHECKPOINT_CORRUPT. */
export function openFiles(dir: string): SafetensorsFile[] {
  if (existsSync(join(dir, WHOLE))) return [openSafetensors(join(dir, WHOLE))];
  const indexPath = join(dir, INDEX);
  if (!existsSync(indexPath)) throw corrupt(`${dir} has no ${WHOLE}: ${whatIsThere(dir)}`);
  const index = validate(Index, readJson(indexPath));
  if (!index.ok) throw corrupt(`${indexPath}: ${index.wrong}`);
  const names = [...new Set(Object.values(index.data.weight_map))].sort();
  const files: SafetensorsFile[] = [];
  try {
    for (const name of names) {
      if (basename(name) !== name) throw corrupt(`${indexPath} names ${name}, which is not in its folder`);
      files.push(openSafetensors(join(dir, name)));
    }
    return files;
  } catch (error) {
    for (const file of files) file.close();
    throw error;
  }
}

const SAVE_AS_SAFETENSORS =
  'load it with transformers and save it by save_pretrained(folder, safe_serialization=True), which writes model.safetensors';

/** Weights that lantrain does not read, by file name, and how to convert each. */
const OTHERS: readonly (readonly [RegExp, string])[] = [
  [
    /^adapter_model\.(safetensors|bin)$/,
    'is an adapter (LoRA): merge it into its model first, by merge_and_unload() of peft',
  ],
  [/^model-\d+-of-\d+\.safetensors$/, `is one of several shards: fetch their index as well, ${INDEX}`],
  [/\.safetensors$/, `has another name: if it is the model, call it ${WHOLE}`],
  [
    /^(pytorch_model.*\.bin(\.index\.json)?|.*\.(pt|pth|ckpt))$/,
    `is a pickle of PyTorch, which lantrain does not read: ${SAVE_AS_SAFETENSORS}`,
  ],
  [/^(tf_model.*\.h5|flax_model.*\.msgpack)$/, `is of another framework: ${SAVE_AS_SAFETENSORS}`],
  [/\.gguf$/, 'is for inference: fetch the model as safetensors'],
];

function whatIsThere(dir: string): string {
  const names = readdirSync(dir).sort();
  for (const [pattern, what] of OTHERS) {
    const name = names.find((one) => pattern.test(one));
    if (name !== undefined) return `its ${name} ${what}`;
  }
  return 'it holds no weights at all; fetch the whole model';
}

function corrupt(message: string): LantrainError {
  return new LantrainError('LT_CHECKPOINT_CORRUPT', message);
}
