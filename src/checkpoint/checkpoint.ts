import { type Dirent, mkdirSync, readdirSync, statSync } from 'node:fs';
import { rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { LantrainError } from '../errors.js';
import { writeFailure, writeText } from '../files/atomic.js';
import { isSystemError, makeOwnFolder, removeQuietly, syncDirectory } from '../files/files.js';
import { checkOwnAt } from '../files/own-files.js';
import { temporaryName } from '../files/temporary-name.js';
import type { ModelConfig } from '../model/config.js';
import { parameters } from '../model/parameters.js';
import { WIRES, type Wire } from '../model/wire.js';
import { validate } from '../util/validate.js';
import { type ReadState, StateDigest, type StatePart, statePartsOf } from './digest.js';
import { openModel, writeModel } from './huggingface.js';
import { readJson } from './huggingface-config.js';
import { compareIdentity } from './identity.js';
import { openSafetensors, writeSafetensors } from './safetensors.js';

/**
 * A run's checkpoints in `<run>/checkpoints/`: one folder a step, with a name padded to six digits so that `ls` sorts
 * them:
 *
 *     000120/config.json          Hugging Face's, so that each checkpoint is a model that --init takes
 *     000120/model.safetensors
 *     000120/optimizer.safetensors   m.<name>, then v.<name>; in the low wire first master.<name>
 *     000120/state.json
 *     000120.<random>.replaced       the older checkpoint of a step, while a new one takes its name
 *     000120.damaged                 was passed over when the run went on; nothing reads, counts or removes it
 *     000180.<random>.partial        being written, or removed
 */
export const REPLACED = '.replaced';
const STEP_DIGITS = 6;

/** state.json: the state after step `step`. */
export const CheckpointState = z.object({
  step: z.number().int().nonnegative(),
  digest: z.string().regex(/^[0-9a-f]{64}$/),
  /** The version of lantrain that wrote it. */
  version: z.string(),
  tokensSeen: z.number().int().nonnegative(),
  /** Absent: exact. */
  wire: z.enum(WIRES).optional(),
  /** Further state of the trainer, such as the loss scale. */
  trainer: z.record(z.string(), z.json()).default({}),
});
export type CheckpointState = z.infer<typeof CheckpointState>;

export interface Checkpoint {
  readonly path: string;
  readonly config: ModelConfig;
  readonly state: CheckpointState;
  read(part: StatePart, name: string): Float32Array;
  close(): void;
}

export interface NewCheckpoint extends Omit<CheckpointState, 'digest' | 'trainer'> {
  readonly model: ModelConfig;
  readonly trainer?: CheckpointState['trainer'];
  /** Called once for each tensor, in the digest's order. */
  readonly read: ReadState;
}

export interface Found {
  readonly found: Checkpoint | undefined;
  /** The newer checkpoints that are damaged, newest first, and why. */
  readonly passedOver: readonly { readonly path: string; readonly why: string }[];
}

/** Called while a checkpoint is read: `done` of `total` values. */
export type OnProgress = (done: number, total: number) => void;

export function checkpointName(step: number): string {
  return String(step).padStart(STEP_DIGITS, '0');
}

/** The checkpoints in `dir`, oldest first, by name only. */
export function listCheckpoints(dir: string): { step: number; path: string }[] {
  return entries(dir)
    .filter((entry) => entry.isDirectory() && /^\d+$/.test(entry.name))
    .map(({ name }) => ({ step: Number(name), path: join(dir, name) }))
    .sort((a, b) => a.step - b.step);
}

/** A text that changes when the checkpoint changes: the sizes and times of its files. The files are not read. */
export function stampOf(path: string): string {
  const stamps = readdirSync(path).map((name) => {
    const { size, mtimeMs } = statSync(join(path, name));
    return [name, size, mtimeMs];
  });
  return JSON.stringify([path, ...stamps]);
}

/** The state.json of the checkpoint at `path`. Throws LT_CHECKPOINT_CORRUPT. */
export function readState(path: string): CheckpointState {
  const statePath = join(path, 'state.json');
  const state = validate(CheckpointState, readJson(statePath));
  if (!state.ok) throw new LantrainError('LT_CHECKPOINT_CORRUPT', `${statePath}: ${state.wrong}`);
  return state.data;
}

/**
 * Opens a checkpoint and checks everything but its values. The caller closes it. Throws LT_CHECKPOINT_CORRUPT,
 * LT_CHECKPOINT_TENSOR or LT_USAGE_MODEL.
 */
export async function openCheckpoint(path: string): Promise<Checkpoint> {
  const state = readState(path);
  const model = await openModel(path);
  const close = [model.close];
  try {
    const optimizer = openSafetensors(join(path, 'optimizer.safetensors'));
    close.push(optimizer.close);
    for (const { name, shape } of optimizerTensors(model.config, state.wire))
      if (optimizer.tensors.get(name)?.shape.join() !== shape.join())
        throw new LantrainError(
          'LT_CHECKPOINT_TENSOR',
          `${optimizer.path}: ${name} is missing or not [${shape.join(', ')}]`,
        );
    return {
      path,
      config: model.config,
      state,
      read: (part, name) => (part === 'weights' ? model.read(name) : optimizer.read(tensorName(part, name))),
      close: () => {
        for (const one of close) one();
      },
    };
  } catch (error) {
    for (const one of close) one();
    throw error;
  }
}

/** The tensors of optimizer.safetensors, in the digest's order. */
function optimizerTensors(config: ModelConfig, wire: Wire | undefined) {
  const list = parameters(config);
  return statePartsOf(wire)
    .filter((part) => part !== 'weights')
    .flatMap((part) => list.map(({ name, shape }) => ({ name: tensorName(part, name), shape, part, of: name })));
}

function tensorName(part: StatePart, name: string): string {
  return `${part}.${name}`;
}

/**
 * The newest whole checkpoint in `dir`: one that opens, is of the run's model and wire, and has the digest of its state.json.
 * `isKnown`: its digest was checked before. The caller closes it.
 */
export async function latestCheckpoint(
  dir: string,
  { model, wire = 'exact' }: { readonly model: ModelConfig; readonly wire?: Wire },
  isKnown: (path: string) => boolean = () => false,
  onProgress?: OnProgress,
): Promise<Found> {
  const passedOver: { path: string; why: string }[] = [];
  for (const { step, path } of listCheckpoints(dir).reverse()) {
    let opened: Checkpoint | undefined;
    try {
      opened = await openCheckpoint(path);
      if (opened.state.step !== step) throw damaged(path, `its state.json says step ${opened.state.step}`);
      const differences = compareIdentity(model, opened.config);
      if (differences.length > 0)
        throw damaged(path, `its config.json is of another model (${differences.join(', ')})`);
      const { wire: own = 'exact' } = opened.state;
      if (own !== wire) throw damaged(path, `its state.json says wire ${own}, and the run's is ${wire}`);
      if (!isKnown(path)) await restoreCheckpoint(opened, () => {}, onProgress);
      return { found: opened, passedOver };
    } catch (error) {
      opened?.close();
      if (!(error instanceof LantrainError) || isBarred(error)) throw error;
      passedOver.push({ path, why: error.message });
    }
  }
  return { found: undefined, passedOver };
}

/** Error codes that keep a process from a file that may be whole. */
const BARRED: ReadonlySet<string | undefined> = new Set(['EACCES', 'EPERM', 'EMFILE', 'ENFILE', 'ENOMEM']);

/** Whether an error says nothing about the file: this process may not read it, or the system lacks a resource. */
export function isBarred({ cause }: LantrainError): boolean {
  return isSystemError(cause) && BARRED.has(cause.code);
}

/**
 * Reads a checkpoint: passes every tensor to `write`, one at a time in the digest's order, and checks the digest at the
 * end. Throws LT_CHECKPOINT_CORRUPT where the digest differs; what was written must then not be used.
 */
export async function restoreCheckpoint(
  checkpoint: Checkpoint,
  write: (part: StatePart, name: string, values: Float32Array) => void | Promise<void>,
  onProgress?: OnProgress,
): Promise<void> {
  const { path, config, state } = checkpoint;
  const digest = new StateDigest(config, state.wire);
  const list = parameters(config);
  const parts = statePartsOf(state.wire);
  const total = parts.length * list.reduce((sum, { size }) => sum + size, 0);
  let done = 0;
  for (const part of parts)
    for (const { name, size } of list) {
      const values = checkpoint.read(part, name);
      digest.add(part, name, values);
      await write(part, name, values);
      done += size;
      onProgress?.(done, total);
    }
  const got = digest.finish(state.step);
  if (got !== state.digest)
    throw damaged(path, `its digest is ${got.slice(0, 16)}..., its state.json says ${state.digest.slice(0, 16)}...`);
}

function damaged(path: string, why: string): LantrainError {
  return new LantrainError('LT_CHECKPOINT_CORRUPT', `${path} is damaged: ${why}`);
}

/**
 * Writes the checkpoint of a step under a temporary name, fsyncs everything, and renames it. Reads every tensor once
 * and computes the digest meanwhile. Throws LT_RUN_WRITE where the system refuses; nothing of it is then left, and the
 * older checkpoints stay. Throws LT_RUN_FOREIGN where something else lies at its path.
 */
export async function writeCheckpoint(dir: string, next: NewCheckpoint): Promise<{ path: string; digest: string }> {
  const { model, step, read, wire } = next;
  const path = join(dir, checkpointName(step));
  const temporary = temporaryName(path);
  const digest = new StateDigest(model, wire);
  const readThrough = async (part: StatePart, name: string) => {
    const values = await read(part, name);
    digest.add(part, name, values);
    return values;
  };
  try {
    makeOwnFolder(dir);
    mkdirSync(temporary);
    await writeModel(temporary, model, (name) => readThrough('weights', name));
    const tensors = optimizerTensors(model, wire);
    const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
    await writeSafetensors(join(temporary, 'optimizer.safetensors'), tensors, (name) => {
      const { part, of } = byName.get(name) as (typeof tensors)[number];
      return readThrough(part, of);
    });
    const state: CheckpointState = {
      step,
      digest: digest.finish(step),
      version: next.version,
      tokensSeen: next.tokensSeen,
      ...(wire === 'low' ? { wire } : {}),
      trainer: next.trainer ?? {},
    };
    await writeText(join(temporary, 'state.json'), `${JSON.stringify(state, null, 1)}\n`);
    await moveInto(temporary, path);
    return { path, digest: state.digest };
  } catch (error) {
    await removeQuietly(temporary);
    const refused = error instanceof LantrainError && error.code === 'LT_RUN_WRITE' ? error.cause : error;
    throw isSystemError(refused) ? writeFailure(path, refused) : error;
  }
}

/** Renames `temporary` to `path`. A folder cannot be renamed over another, so an older one is renamed first. */
async function moveInto(temporary: string, path: string): Promise<void> {
  checkOwnAt(path, { kind: 'folder' });
  const aside = temporaryName(path, REPLACED);
  try {
    await rename(path, aside);
  } catch (error) {
    if (!isSystemError(error) || error.code !== 'ENOENT') throw error;
  }
  try {
    await rename(temporary, path);
  } catch (error) {
    await rename(aside, path).catch(() => {});
    throw error;
  }
  await syncDirectory(dirname(path));
  await removeQuietly(aside);
}

/** The entries of the folder of checkpoints; empty where it does not exist. */
export function entries(dir: string): Dirent[] {
  try {
    return readdirSync(dir, { withFileTypes: true });
  } catch (error) {
    if (isSystemError(error) && error.code === 'ENOENT') return [];
    throw error;
  }
}
