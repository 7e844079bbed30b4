import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { LantrainError } from '../errors.js';
import type { ModelConfig } from '../model/config.js';
import { type Parameter, parameters } from '../model/parameters.js';
import { validate } from '../validate.js';
import { writeFailure, writeText } from './atomic.js';
import { modelConfigJson, readJson, readModelConfig } from './huggingface-config.js';
import { openSafetensors, type SafetensorsFile, type TensorInfo, writeSafetensors } from './safetensors.js';

/** Hugging Face's GPT-2 folder: config.json, and model.safetensors or shards under model.safetensors.index.json. */
export interface ModelFolder {
  readonly config: ModelConfig;
  /** One tensor as float32; `name` as in parameters.ts. Only this tensor is read from the disk. */
  read(name: string): Float32Array;
  close(): void;
}

/** A tensor in one of the folder's files, under the name it has there. */
interface Located {
  readonly file: SafetensorsFile;
  readonly info: TensorInfo;
}

const PREFIX = 'transformer.';
const HEAD = 'lm_head.weight';
/** The causal mask that older versions of transformers stored with each layer. */
const BUFFER = /^h\.\d+\.attn\.(bias|masked_bias)$/;
const FLOATS: readonly string[] = ['F32', 'F16', 'BF16'];
const NAMED_AT_MOST = 6;
const COMPARED_VALUES = 2 ** 20;

/**
 * Opens a GPT-2 folder and checks every tensor's name, shape and type against config.json; values stay on the disk.
 * Names may have the prefix `transformer.`, matrices are (in, out), a tied head may be absent or equal to the embedding.
 * Throws LT_CHECKPOINT_CORRUPT (files), LT_CHECKPOINT_TENSOR (missing, wrong or unknown tensors, all in one error) and
 * LT_USAGE_MODEL (a model that lantrain does not have).
 */
export async function openModel(dir: string): Promise<ModelFolder> {
  const config = readModelConfig(join(dir, 'config.json'));
  const files = openFiles(dir);
  const close = () => {
    for (const file of files) file.close();
  };
  try {
    const tensors = collect(dir, files);
    checkTensors(dir, parameters(config), tensors);
    if (config.tie) checkTiedHead(dir, config, tensors);
    const read = (name: string) => {
      const located = tensors.get(name);
      if (!located) throw new LantrainError('LT_CHECKPOINT_TENSOR', `${dir} has no tensor ${name}`);
      return located.file.read(located.info.name);
    };
    return { config, read, close };
  } catch (error) {
    close();
    throw error;
  }
}

/**
 * Writes a GPT-2 folder, tensor by tensor in the order of parameters.ts, each asked for once; makes `dir` if need be.
 * Each file appears whole or not at all. Throws LT_RUN_WRITE where the system refuses, and whatever `read` throws.
 */
export async function writeModel(
  dir: string,
  config: ModelConfig,
  read: (name: string) => Float32Array | Promise<Float32Array>,
): Promise<void> {
  try {
    await mkdir(dir, { recursive: true });
  } catch (error) {
    throw writeFailure(dir, error);
  }
  const entries = parameters(config).map(({ name, shape }) => ({ name: storedName(name), shape }));
  await writeSafetensors(join(dir, 'model.safetensors'), entries, (stored) => read(plainName(stored)));
  await writeText(join(dir, 'config.json'), modelConfigJson(config));
}

const storedName = (name: string) => (name === HEAD ? name : PREFIX + name);
const plainName = (stored: string) => (stored.startsWith(PREFIX) ? stored.slice(PREFIX.length) : stored);

const Index = z.object({ weight_map: z.record(z.string(), z.string()) });

function openFiles(dir: string): SafetensorsFile[] {
  const whole = join(dir, 'model.safetensors');
  const indexPath = join(dir, 'model.safetensors.index.json');
  if (existsSync(whole) || !existsSync(indexPath)) return [openSafetensors(whole)];
  const index = validate(Index, readJson(indexPath));
  if (!index.ok) throw new LantrainError('LT_CHECKPOINT_CORRUPT', `${indexPath}: ${index.wrong}`);
  const names = [...new Set(Object.values(index.data.weight_map))].sort();
  const files: SafetensorsFile[] = [];
  try {
    for (const name of names) {
      if (basename(name) !== name)
        throw new LantrainError('LT_CHECKPOINT_CORRUPT', `${indexPath} names ${name}, which is not in its folder`);
      files.push(openSafetensors(join(dir, name)));
    }
    return files;
  } catch (error) {
    for (const file of files) file.close();
    throw error;
  }
}

/** All tensors but the buffers, by the names of parameters.ts. */
function collect(dir: string, files: readonly SafetensorsFile[]): Map<string, Located> {
  const tensors = new Map<string, Located>();
  for (const file of files)
    for (const info of file.tensors.values()) {
      const name = plainName(info.name);
      if (BUFFER.test(name)) continue;
      if (tensors.has(name)) throw new LantrainError('LT_CHECKPOINT_TENSOR', `${dir} has ${name} twice`);
      tensors.set(name, { file, info });
    }
  return tensors;
}

function checkTensors(dir: string, wanted: readonly Parameter[], tensors: ReadonlyMap<string, Located>): void {
  const faults: string[] = [];
  for (const { name, shape } of wanted) {
    const info = tensors.get(name)?.info;
    if (!info) faults.push(`${name} is missing (expected [${shape.join(', ')}])`);
    else faults.push(...tensorFaults(name, shape, info));
  }
  const known = new Set(wanted.map(({ name }) => name)).add(HEAD);
  for (const name of tensors.keys()) if (!known.has(name)) faults.push(`${name} is unknown`);
  refuse(dir, faults);
}

function tensorFaults(name: string, shape: readonly number[], info: TensorInfo): string[] {
  if (info.shape.join() !== shape.join())
    return [`${name}: expected [${shape.join(', ')}], got [${info.shape.join(', ')}]`];
  return FLOATS.includes(info.dtype) ? [] : [`${name}: expected ${FLOATS.join(', ')}, got ${info.dtype}`];
}

/** A tied model's file may hold the head as well; it must then be the embedding, or training would silently drop it. */
function checkTiedHead(dir: string, config: ModelConfig, tensors: ReadonlyMap<string, Located>): void {
  const head = tensors.get(HEAD);
  const embedding = tensors.get('wte.weight');
  if (!head || !embedding) return;
  refuse(dir, tensorFaults(HEAD, [config.vocabSize, config.width], head.info));
  for (let from = 0; from < head.info.size; from += COMPARED_VALUES) {
    const count = Math.min(COMPARED_VALUES, head.info.size - from);
    const a = new Uint32Array(head.file.read(head.info.name, from, count).buffer);
    const b = new Uint32Array(embedding.file.read(embedding.info.name, from, count).buffer);
    if (a.some((bits, i) => bits !== b[i]))
      refuse(dir, [
        `${HEAD} is not wte.weight, though config.json ties them; "tie_word_embeddings": false unties them`,
      ]);
  }
}

function refuse(dir: string, faults: readonly string[]): void {
  if (faults.length === 0) return;
  const rest = faults.length - NAMED_AT_MOST;
  const named = faults.slice(0, NAMED_AT_MOST).join('; ') + (rest > 0 ? `; and ${rest} more` : '');
  throw new LantrainError('LT_CHECKPOINT_TENSOR', `${dir} does not fit its config.json: ${named}`);
}
