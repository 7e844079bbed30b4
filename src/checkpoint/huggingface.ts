import { join } from 'node:path';
import { LantrainError } from '../errors.js';
import { writeFailure, writeText } from '../files/atomic.js';
import { makeFolder } from '../files/files.js';
import type { ModelConfig } from '../model/config.js';
import { type Parameter, parameters } from '../model/parameters.js';
import { modelConfigJson, readModelConfig } from './huggingface-config.js';
import { openFiles } from './huggingface-files.js';
import { type SafetensorsFile, type TensorInfo, writeSafetensors } from './safetensors.js';

/** Hugging Face's GPT-2 folder: config.json, and model.safetensors or shards under model.safetensors.index.json. */
export interface ModelFolder {
  readonly config: ModelConfig;
  /** Names, as stored, of tensors that are not part of the model: heads for other tasks. */
  readonly passedOver: readonly string[];
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
/** Prefixes that wrappers of a model add to its tensors' names, possibly several. */
const PREFIXES = [PREFIX, 'module.', 'model.', 'base_model.', 'pretrained_model.'];
/** Parts that torch.compile, sharding and recomputation add anywhere within a name. */
const WRAPPERS = /(?<![^.])(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\./g;
const HEAD = 'lm_head.weight';
/** The causal mask that older versions of transformers stored with each layer. */
const BUFFER = /^h\.\d+\.attn\.(bias|masked_bias)$/;
/** Heads for other tasks: values (reinforcement learning), classes, choices, answers. */
const OTHER_HEAD = /^(v_head|value_head|score|classifier|multiple_choice_head|qa_outputs)\./;
const MATRIX = /\.c_(attn|proj|fc)\.weight$/;
const FLOATS: readonly string[] = ['F32', 'F16', 'BF16'];
const NAMED_AT_MOST = 6;
/** At most this many unknown names are listed first, since they explain the fault best. */
const UNKNOWN_AT_MOST = 3;
const COMPARED_VALUES = 2 ** 20;

/**
 * Opens a GPT-2 folder and checks every tensor's name, shape and type against config.json. Values are read later, by
 * `read`. Names may have the prefix `transformer.` and those of wrappers. Matrices are (in, out). A tied head may be
 * absent or equal to the embedding. Biases that config.json denies may be present if they are zero. Throws
 * LT_CHECKPOINT_CORRUPT (files), LT_CHECKPOINT_TENSOR (missing, wrong or unknown tensors, all in one error) and
 * LT_USAGE_MODEL (a model that lantrain cannot train).
 */
export async function openModel(dir: string): Promise<ModelFolder> {
  const config = readModelConfig(join(dir, 'config.json'));
  const files = openFiles(dir);
  const close = () => {
    for (const file of files) file.close();
  };
  try {
    const { tensors, passedOver } = collect(dir, files);
    if (!config.qkvBias) dropZeroBiases(dir, config, tensors);
    checkTensors(dir, parameters(config), tensors);
    if (config.tie) checkTiedHead(dir, config, tensors);
    const read = (name: string) => {
      const located = tensors.get(name);
      if (!located) throw new LantrainError('LT_CHECKPOINT_TENSOR', `${dir} has no tensor ${name}`);
      return located.file.read(located.info.name);
    };
    return { config, passedOver, read, close };
  } catch (error) {
    close();
    throw error;
  }
}

/** The files that `writeModel` writes. */
export const MODEL_FILES = ['model.safetensors', 'config.json'] as const;

/**
 * Writes a GPT-2 folder, which it makes if missing. Calls `read` once for each tensor, in the order of parameters.ts.
 * Each file appears whole or not at all. Throws LT_RUN_WRITE where the system refuses, and whatever `read` throws.
 */
export async function writeModel(
  dir: string,
  config: ModelConfig,
  read: (name: string) => Float32Array | Promise<Float32Array>,
): Promise<void> {
  try {
    makeFolder(dir);
  } catch (error) {
    throw writeFailure(dir, error);
  }
  const entries = parameters(config).map(({ name, shape }) => ({ name: storedName(name), shape }));
  const [weights, shape] = MODEL_FILES.map((name) => join(dir, name));
  await writeSafetensors(weights, entries, (stored) => read(plainName(stored)));
  await writeText(shape, modelConfigJson(config));
}

const storedName = (name: string) => (name === HEAD ? name : PREFIX + name);

function plainName(stored: string): string {
  let name = stored.replace(WRAPPERS, '');
  for (let prefix: string | undefined = ''; prefix !== undefined; ) {
    name = name.slice(prefix.length);
    prefix = PREFIXES.find((one) => name.startsWith(one));
  }
  return name;
}

/** All tensors except buffers and heads for other tasks, by their names in parameters.ts. */
function collect(dir: string, files: readonly SafetensorsFile[]) {
  const tensors = new Map<string, Located>();
  const passedOver: string[] = [];
  for (const file of files)
    for (const info of file.tensors.values()) {
      const name = plainName(info.name);
      if (BUFFER.test(name)) continue;
      if (OTHER_HEAD.test(name)) {
        passedOver.push(info.name);
        continue;
      }
      if (tensors.has(name)) throw new LantrainError('LT_CHECKPOINT_TENSOR', `${dir} has ${name} twice`);
      tensors.set(name, { file, info });
    }
  return { tensors, passedOver };
}

/**
 * Removes the biases of queries, keys and values from `tensors` if every layer has one: where a model without them was
 * loaded, transformers stores zeros. Throws LT_CHECKPOINT_TENSOR for a bias that is not zero.
 */
function dropZeroBiases(dir: string, { layers, width }: ModelConfig, tensors: Map<string, Located>): void {
  const names = Array.from({ length: layers }, (_, i) => `h.${i}.attn.c_attn.bias`);
  for (const name of names) {
    const located = tensors.get(name);
    if (!located || tensorFaults(name, [3 * width], located.info).length > 0) return;
    if (located.file.read(located.info.name).some((value) => value !== 0))
      refuse(dir, [`${name} is not zero, though config.json says "qkv_bias": false; "qkv_bias": true keeps it`]);
  }
  for (const name of names) tensors.delete(name);
}

function checkTensors(dir: string, wanted: readonly Parameter[], tensors: ReadonlyMap<string, Located>): void {
  const faults: string[] = [];
  for (const { name, shape } of wanted) {
    const info = tensors.get(name)?.info;
    if (!info) faults.push(`${name} is missing (expected [${shape.join(', ')}])`);
    else faults.push(...tensorFaults(name, shape, info));
  }
  const known = new Set(wanted.map(({ name }) => name)).add(HEAD);
  const unknown = [...tensors.keys()].filter((name) => !known.has(name)).map((name) => `${name} is unknown`);
  if (faults.length + unknown.length <= NAMED_AT_MOST) refuse(dir, [...faults, ...unknown]);
  refuse(dir, [...unknown.slice(0, UNKNOWN_AT_MOST), ...faults, ...unknown.slice(UNKNOWN_AT_MOST)]);
}

/** Reads all weights. Throws LT_CHECKPOINT_TENSOR, naming the tensors, where one is NaN or infinite. */
export function checkFinite(dir: string, model: ModelFolder): void {
  const faults: string[] = [];
  for (const { name, size } of parameters(model.config)) {
    const values = model.read(name);
    let bad = 0;
    for (let i = 0; i < size; i++) if (!Number.isFinite(values[i])) bad++;
    if (bad > 0) faults.push(`${name} (${bad} of ${size})`);
  }
  if (faults.length === 0) return;
  throw new LantrainError(
    'LT_CHECKPOINT_TENSOR',
    `${dir} has weights that are NaN or infinite: ${listed(faults, ', ')}; take a checkpoint from before they came about`,
  );
}

function tensorFaults(name: string, shape: readonly number[], info: TensorInfo): string[] {
  if (info.shape.join() !== shape.join()) {
    const isTransposed = MATRIX.test(name) && info.shape.toReversed().join() === shape.join();
    const why = isTransposed ? ', transposed as nanoGPT stores it' : '';
    return [`${name}: expected [${shape.join(', ')}], got [${info.shape.join(', ')}]${why}`];
  }
  return FLOATS.includes(info.dtype) ? [] : [`${name}: expected ${FLOATS.join(', ')}, got ${info.dtype}`];
}

/** A tied model's file may also hold the head. It must then equal the embedding, or training would silently drop it. */
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
  throw new LantrainError('LT_CHECKPOINT_TENSOR', `${dir} does not fit its config.json: ${listed(faults, '; ')}`);
}

function listed(faults: readonly string[], separator: string): string {
  const rest = faults.length - NAMED_AT_MOST;
  return faults.slice(0, NAMED_AT_MOST).join(separator) + (rest > 0 ? `${separator}and ${rest} more` : '');
}
